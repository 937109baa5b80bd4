//! Grandstream UCM and CloudUCM: the HTTPS API ("New"), log-in by challenge, `cdrapi` in JSON.
//!
//! Must never try a refused password again by itself (the device locks out), never send a parameter that the device does
//! not know (it says nothing and answers with nothing), and never let a password, token or cookie into a message.

mod status;

use crate::crash_point;
use crate::formats::grandstream::page::{self, page};
use crate::pulse;
use crate::record::remote::{Endpoint, Fingerprint, Trust};
use crate::sources::polling::http::{Answer, Client, HttpError};
use crate::sources::polling::{Ask, By, Leg, Page, System, Trouble};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use status::{Verdict, judge};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a session is believed to live; one that dies earlier teaches a shorter time.
const SESSION: Duration = Duration::from_mins(10);
/// Rest between requests once a device has said that they come too often.
const SLOW: Duration = Duration::from_secs(1);
/// How often whoever waits looks whether to stop.
const SLICE: Duration = Duration::from_millis(50);
/// Longest answer to a log-in that is looked at.
const LONGEST_LOGIN: usize = 64 * 1024;

/// A device as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where its API is.
    pub endpoint: Endpoint,
    /// Whose certificate is good.
    pub trust: Trust,
    /// The API user.
    pub user: String,
    /// How long one request may take.
    pub within: Duration,
    /// Zone of its wall clock.
    pub zone: TimeZone,
}

/// A password on its way to the device. Shows nothing of itself.
pub struct Password(pub String);

/// Where the password is had from, each time anew: it may be another one by now. The error says what to do.
pub type Keeper = Arc<dyn Fn() -> Result<Password, String> + Send + Sync>;

/// A device.
pub struct Ucm {
    config: Config,
    keeper: Keeper,
    client: Client,
    session: Option<Session>,
    /// How long sessions live here.
    life: Duration,
    slow: bool,
}

struct Session {
    cookie: String,
    since: Instant,
}

impl Ucm {
    /// One whose password is had there.
    pub fn new(config: Config, keeper: Keeper) -> Result<Self, HttpError> {
        let client = Client::new(config.endpoint.clone(), config.trust, config.within)?;
        Ok(Self { config, keeper, client, session: None, life: SESSION, slow: false })
    }

    /// The certificate that it last showed.
    pub fn certificate(&self) -> Option<Fingerprint> {
        self.client.certificate()
    }

    /// One request. What comes back is an answer to it, or trouble.
    fn ask(&self, request: &Value, requests: &mut u64, stop: &AtomicBool) -> Result<Answer, Trouble> {
        *requests += 1;
        let body = json!({ "request": request }).to_string();
        let answer = self.client.post(body, stop).map_err(trouble)?;
        let authority = self.config.endpoint.authority();
        match answer.status {
            200 => Ok(answer),
            status @ (500..=599 | 429 | 408) => Err(Trouble::passing(format!(
                "{authority} answered with HTTP status {status}; it is asked again"
            ))),
            status => Err(Trouble::person(format!(
                "{authority} answered with HTTP status {status}: this is not the API of a UCM; write url with the port of its \
                 web page, like https://{}:8089, and enable HTTPS API Settings (New) on the device",
                self.config.endpoint.host
            ))),
        }
    }

    fn log_in(&mut self, requests: &mut u64, stop: &AtomicBool) -> Result<(), Trouble> {
        let turn = turn_at(&self.config.endpoint.authority());
        let _turn = taken(&turn, stop)?;
        let password = (self.keeper)().map_err(Trouble::person)?;
        let user = &self.config.user;
        let challenge = json!({"action": "challenge", "user": user, "version": "1.0"});
        let challenge = self.answered(&challenge, "challenge", requests, stop)?;
        let mut hash = Md5::new();
        hash.update(challenge.as_bytes());
        hash.update(password.0.as_bytes());
        let token = hash.finalize().iter().fold(String::new(), |mut token, byte| {
            let _ = write!(token, "{byte:02x}");
            token
        });
        let login = json!({"action": "login", "user": user, "token": token});
        let cookie = self.answered(&login, "cookie", requests, stop)?;
        self.session = Some(Session { cookie, since: Instant::now() });
        crash_point::reached("poll-logged-in");
        Ok(())
    }

    /// A member of the answer to a step of the log-in.
    fn answered(
        &self,
        request: &Value,
        member: &str,
        requests: &mut u64,
        stop: &AtomicBool,
    ) -> Result<String, Trouble> {
        let answer = self.ask(request, requests, stop)?;
        let body = answer.body.get(..answer.body.len().min(LONGEST_LOGIN)).unwrap_or_default();
        let said: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let number = |name: &str| {
            let found = [&said[name], &said["response"][name]].into_iter().find(|value| !value.is_null())?;
            found.as_i64().or_else(|| found.as_str()?.trim().parse().ok())
        };
        let code = number("status");
        if let Some(text) = said["response"][member].as_str().filter(|text| !text.is_empty())
            && code.is_none_or(|code| code == 0)
        {
            return Ok(text.to_owned());
        }
        let left = number("remain_num").and_then(|left| u64::try_from(left).ok());
        Err(match code {
            Some(code) => match judge(code, left) {
                // There is no session yet that could have ended.
                Verdict::SessionEnded => Trouble::passing(status::words(code)),
                Verdict::Trouble(trouble) => trouble,
                Verdict::Good => Trouble::person(self.no_api()),
            },
            None => Trouble::person(self.no_api()),
        })
    }

    fn no_api(&self) -> String {
        format!(
            "what answers at {} is not the API of a UCM; write url with the port of its web page, like https://{}:8089",
            self.config.endpoint.authority(),
            self.config.endpoint.host
        )
    }

    fn request(&self, ask: &Ask, cookie: &str) -> Value {
        // The device reads a time as its own or by its offset; the offset is said, and the `T` that it needs.
        let written = |at: Timestamp| {
            at.to_zoned(self.config.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        };
        json!({
            "action": "cdrapi",
            "cookie": cookie,
            "format": "json",
            "numRecords": ask.count.to_string(),
            "offset": ask.offset.to_string(),
            "startTime": written(ask.from),
            "endTime": written(ask.to),
            "timeFilterType": if ask.by == By::Start { "Start" } else { "End" },
        })
    }

    /// A session that will live for this request.
    fn cookie(&mut self, requests: &mut u64, stop: &AtomicBool) -> Result<String, Trouble> {
        let alive = |session: &Session| session.since.elapsed() < self.life * 9 / 10;
        if !self.session.as_ref().is_some_and(alive) {
            self.session = None;
            self.log_in(requests, stop)?;
        }
        let session = self.session.as_ref().map(|session| session.cookie.clone());
        session.ok_or_else(|| Trouble::passing("there is no session; it is asked again"))
    }

    fn leg(&self, leg: page::Leg) -> Leg {
        // Of two times that it may mean the earlier; one that is none has no place in time.
        let at = |text: &str| -> Option<Timestamp> {
            let civil: DateTime = text.trim().replacen(' ', "T", 1).parse().ok()?;
            self.config.zone.to_ambiguous_timestamp(civil).earlier().ok()
        };
        Leg { start: at(&leg.start), end: at(&leg.end), id: leg.id, content: leg.content }
    }
}

impl System for Ucm {
    fn page(&mut self, ask: &Ask, requests: &mut u64, stop: &AtomicBool) -> Result<Page, Trouble> {
        let mut renewed = false;
        loop {
            if self.slow {
                rest(SLOW, stop)?;
            }
            let cookie = self.cookie(requests, stop)?;
            let answer = self.ask(&self.request(ask, &cookie), requests, stop)?;
            let read = page(&answer.body);
            if !read.whole {
                return Err(Trouble::passing(format!(
                    "{} answered with something that is no JSON, or only half of it; it is asked again",
                    self.config.endpoint.authority()
                )));
            }
            match judge(read.status.unwrap_or(0), None) {
                Verdict::Good => {
                    let legs = read.legs.into_iter().map(|leg| self.leg(leg)).collect();
                    return Ok(Page { body: answer.body, elements: read.elements, legs, clock: answer.date });
                }
                Verdict::SessionEnded if !renewed => {
                    let age = self.session.take().map_or(self.life, |session| session.since.elapsed());
                    self.life = self.life.min(age.max(Duration::from_secs(10)));
                    renewed = true;
                }
                Verdict::SessionEnded => {
                    self.session = None;
                    return Err(Trouble::passing(
                        "the device ends each session at once; it is tried again: look for another program that logs in \
                         with the same user",
                    ));
                }
                Verdict::Trouble(trouble) => {
                    self.slow |= status::TOO_OFTEN.contains(&read.status.unwrap_or(0));
                    return Err(trouble);
                }
            }
        }
    }

    fn credentials(&self) -> Option<u16> {
        let password = (self.keeper)().ok()?;
        // Two bytes of it: enough to see a change, too little to find a password from.
        let mut hash = blake3::Hasher::new_derive_key("cdrd 2026 mark of poller credentials");
        for part in [self.config.endpoint.authority().as_str(), &self.config.user, &password.0] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        let hash = hash.finalize();
        Some(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]))
    }

    fn leave(&mut self) {
        let Some(session) = self.session.take() else { return };
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        // The process is on its way out: the session ends by itself otherwise.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            told.store(true, Ordering::Relaxed);
        });
        let logout = json!({"action": "logout", "cookie": session.cookie});
        let _ = self.ask(&logout, &mut 0, &stop);
    }

    fn warning(&self) -> Option<String> {
        (self.config.trust == Trust::Insecure).then(|| {
            "its certificate is not looked at (tls = \"insecure\"): whoever is between can read the log-in and change calls; \
             pin it instead"
                .to_owned()
        })
    }
}

/// A device keeps one challenge: a log-in begun by another source meanwhile would make this one a wrong password.
fn turn_at(authority: &str) -> Arc<Mutex<()>> {
    static TURNS: Mutex<BTreeMap<String, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    turns.entry(authority.to_owned()).or_default().clone()
}

fn taken<'t>(turn: &'t Mutex<()>, stop: &AtomicBool) -> Result<MutexGuard<'t, ()>, Trouble> {
    let _waiting = pulse::waiting();
    loop {
        match turn.try_lock() {
            Ok(taken) => return Ok(taken),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => rest(SLICE, stop)?,
        }
    }
}

fn rest(long: Duration, stop: &AtomicBool) -> Result<(), Trouble> {
    let until = Instant::now() + long;
    while Instant::now() < until {
        if stop.load(Ordering::Relaxed) {
            return Err(Trouble::Stopping);
        }
        std::thread::sleep(SLICE.min(long));
    }
    Ok(())
}

fn trouble(error: HttpError) -> Trouble {
    match error {
        HttpError::Stopped => Trouble::Stopping,
        error if error.needs_a_person() => Trouble::person(error.to_string()),
        error => Trouble::passing(error.to_string()),
    }
}

/// A day of calls, to show what the device gives.
pub fn last_day(now: Timestamp, count: usize) -> Ask {
    let span = |hours| SignedDuration::from_hours(hours);
    Ask {
        from: now.checked_sub(span(24)).unwrap_or(now),
        to: now.checked_add(span(48)).unwrap_or(now),
        by: By::End,
        offset: 0,
        count,
    }
}
