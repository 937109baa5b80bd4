//! A UCM to poll: an HTTPS server that answers like the device's API, and is as unforgiving. Written from what is known of
//! the device, not from the poller.
//!
//! It says nothing where the device says nothing: a space instead of `T`, a name that is no parameter, a parameter beside
//! `request` all end in an answer that looks well.

mod rows;
mod tls;

use rows::{Filter, page};
pub use rows::{Shape, leg, legs_of};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use md5::{Digest as _, Md5};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Log-ins with a wrong password until the address is locked out.
const TRIES: u32 = 4;

/// What goes wrong with the next request of an action.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error, with its code at the top.
    Status(i64),
    /// The same with the code inside `response`, and what was asked in it.
    StatusInside(i64),
    /// The cookie is forgotten before the request is looked at.
    CookieDies,
    /// The answer of the request before, once more.
    SamePage,
    /// Half of the answer, then the connection breaks.
    Half,
    /// Nothing at all until the client goes.
    Hang,
    /// Exactly this instead of the answer.
    Body(&'static str),
    /// This instead of the answer, with another HTTP status.
    Http(u16, &'static str),
}

/// What a test may look at and change while the device runs.
pub struct State {
    pub user: String,
    pub password: String,
    pub zone: TimeZone,
    /// How far its clock is ahead, in seconds.
    pub skew: i64,
    /// Rows that are written, in the order in which the device lists them.
    pub rows: Vec<Map<String, Value>>,
    pub shape: Shape,
    /// Pages cannot be asked for: whatever the offset, the first one comes.
    pub offset_ignored: bool,
    /// Old firmware knows no `timeFilterType`.
    pub filter_ignored: bool,
    /// Of the answers that have calls, each so many is this instead.
    pub empty_every: Option<(usize, &'static str)>,
    full: usize,
    /// Requests that a cookie is good for.
    pub cookie_life: u32,
    /// Faults to come: action and what goes wrong.
    pub faults: VecDeque<(&'static str, Fault)>,
    /// Every request: its action and its body.
    pub asked: Vec<(String, String)>,
    /// Wrong passwords so far.
    pub wrong: u32,
    challenge: Option<String>,
    cookies: Vec<(String, u32)>,
    last: Option<String>,
    count: u64,
}

impl State {
    /// How often this action was asked for.
    pub fn times(&self, action: &str) -> usize {
        self.asked.iter().filter(|(asked, _)| asked == action).count()
    }

    /// No log-in is let in any more.
    pub fn locked_out(&self) -> bool {
        self.wrong >= TRIES
    }

    fn fault(&mut self, action: &str) -> Option<Fault> {
        let place = self.faults.iter().position(|(of, _)| *of == action)?;
        self.faults.remove(place).map(|(_, fault)| fault)
    }

    /// The answer to a body, unless the connection is to break.
    fn answer(&mut self, body: &str) -> String {
        let asked: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        let request = asked.get("request").cloned().unwrap_or(Value::Null);
        let action = request["action"].as_str().unwrap_or_default().to_owned();
        let answer = match self.fault_of(&action, body) {
            Some(answer) => answer,
            None => self.done(&action, &request).to_string(),
        };
        if action == "cdrapi" {
            self.last = Some(answer.clone());
        }
        answer
    }

    fn fault_of(&mut self, action: &str, body: &str) -> Option<String> {
        match self.fault(action)? {
            Fault::Status(code) => Some(json!({"response": {}, "status": code}).to_string()),
            Fault::StatusInside(code) => Some(
                json!({"response": {"status": code, "error_msg": format!("cannot do {body}")}}).to_string(),
            ),
            Fault::CookieDies => {
                self.cookies.clear();
                None
            }
            Fault::SamePage => self.last.clone(),
            Fault::Body(text) => Some(text.to_owned()),
            Fault::Half | Fault::Hang | Fault::Http(..) => None,
        }
    }

    fn done(&mut self, action: &str, request: &Value) -> Value {
        match action {
            "challenge" => {
                self.count += 1;
                let challenge = format!("{:016}", 1_496_038_514 + self.count);
                self.challenge = Some(challenge.clone());
                json!({"response": {"challenge": challenge}, "status": 0})
            }
            "login" => self.log_in(request),
            "cdrapi" => self.cdrs(request),
            "logout" => {
                if let Some(code) = self.session(request) {
                    return json!({"response": {}, "status": code});
                }
                let cookie = request["cookie"].as_str().unwrap_or_default();
                self.cookies.retain(|(known, _)| known != cookie);
                json!({"status": 0})
            }
            _ => json!({"response": {"error_msg": "Invalid parameters!"}, "status": -1}),
        }
    }

    fn log_in(&mut self, request: &Value) -> Value {
        if self.locked_out() {
            return json!({"response": {}, "status": -70});
        }
        if request["user"].as_str() != Some(&self.user) {
            return json!({"response": {}, "status": -71});
        }
        let token = self.challenge.take().map(|challenge| token(&challenge, &self.password));
        if token.is_none() || request["token"].as_str() != token.as_deref() {
            self.wrong += 1;
            return json!({"response": {"remain_num": TRIES - self.wrong, "remain_time": 300}, "status": -37});
        }
        self.wrong = 0;
        self.count += 1;
        let cookie = format!("sid{}-{}", 743_052_864 + self.count, self.now().as_second());
        self.cookies.push((cookie.clone(), self.cookie_life));
        json!({"response": {"cookie": cookie}, "status": 0})
    }

    /// What is wrong with the cookie of a request.
    fn session(&mut self, request: &Value) -> Option<i64> {
        let Some(cookie) = request["cookie"].as_str() else { return Some(-5) };
        let known = self.cookies.iter_mut().find(|(known, left)| known == cookie && *left > 0);
        let Some((_, left)) = known else { return Some(-6) };
        *left -= 1;
        None
    }

    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second() + self.skew).unwrap_or(now)
    }

    fn cdrs(&mut self, request: &Value) -> Value {
        if let Some(code) = self.session(request) {
            return json!({"response": {}, "status": code});
        }
        if request["format"].as_str().is_none_or(|format| !format.eq_ignore_ascii_case("json")) {
            // The default is CSV.
            return json!("AcctId,accountcode,src,dst,dcontext,clid,channel,dstchannel,lastapp,lastdata\n");
        }
        let Some(mut filter) = Filter::of(request, &self.zone) else { return self.shape.empty() };
        filter.by_end &= !self.filter_ignored;
        if self.offset_ignored {
            filter.offset = 0;
        }
        let page = page(&self.rows, &filter, self.shape);
        self.full += usize::from(!rows::ids(&page).is_empty());
        match self.empty_every {
            Some((every, text)) if !rows::ids(&page).is_empty() && self.full % every == 1 => {
                serde_json::from_str(text).expect("JSON")
            }
            _ => page,
        }
    }
}

/// MD5 of challenge and password, in small letters.
fn token(challenge: &str, password: &str) -> String {
    let hash = Md5::digest(format!("{challenge}{password}"));
    hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A device at work; gone when dropped.
pub struct Device {
    pub port: u16,
    state: Arc<Mutex<State>>,
    config: Arc<Mutex<Arc<rustls::ServerConfig>>>,
    stop: Arc<AtomicBool>,
    dir: tempfile::TempDir,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Device {
    /// A device in this zone that has these rows.
    pub fn start(zone: &str, rows: Vec<Map<String, Value>>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let config = Arc::new(Mutex::new(tls::certificate(dir.path())));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(Mutex::new(State {
            user: "cdrapi".to_owned(),
            password: "canary-4711-Pa55".to_owned(),
            zone: TimeZone::get(zone).expect("a zone"),
            skew: 0,
            rows,
            shape: Shape::default(),
            offset_ignored: false,
            filter_ignored: false,
            empty_every: None,
            full: 0,
            cookie_life: u32::MAX,
            faults: VecDeque::new(),
            asked: Vec::new(),
            wrong: 0,
            challenge: None,
            cookies: Vec::new(),
            last: None,
            count: 0,
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (served, given, told) = (state.clone(), config.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let (state, told) = (served.clone(), told.clone());
                let config = given.lock().unwrap_or_else(PoisonError::into_inner).clone();
                std::thread::spawn(move || {
                    // A client that goes away in the middle is its own affair.
                    let _ = serve(stream, config, &state, &told);
                });
            }
        });
        Self { port, state, config, stop, dir }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its certificate, as a file of trusted roots.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("certificate.pem")
    }

    /// SHA-256 of its certificate, by another program.
    pub fn fingerprint(&self) -> String {
        tls::fingerprint(&self.certificate())
    }

    /// Takes a new certificate, as devices do by themselves.
    pub fn renew_certificate(&self) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = tls::certificate(self.dir.path());
    }
}

/// One request, one answer, and the connection is closed.
fn serve(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    state: &Mutex<State>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let Some((line, body)) = received(&mut stream)? else { return Ok(()) };
    let (answer, fault, clock) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = state.now();
        if line.starts_with("POST /api HTTP/1.") {
            let action = serde_json::from_str::<Value>(&body)
                .ok()
                .and_then(|asked| Some(asked["request"]["action"].as_str()?.to_owned()))
                .unwrap_or_default();
            state.asked.push((action.clone(), body.clone()));
            let broken = |fault: &Fault| matches!(fault, Fault::Half | Fault::Hang | Fault::Http(..));
            let due = state.faults.iter().find(|(of, _)| *of == action);
            let fault = due.map(|(_, fault)| fault.clone()).filter(broken);
            if fault.is_some() {
                state.fault(&action);
            }
            // One fault at a time.
            let later = if fault.is_some() { std::mem::take(&mut state.faults) } else { VecDeque::new() };
            let answer = state.answer(&body);
            state.faults.extend(later);
            (answer, fault, clock)
        } else {
            let wrong = json!({"response": {"error_msg": "Invalid parameters!"}, "status": -1});
            (wrong.to_string(), None, clock)
        }
    };
    let (status, answer) = match fault {
        Some(Fault::Hang) => {
            while !stop.load(Ordering::Relaxed) && stream.sock.peek(&mut [0]).is_ok_and(|left| left > 0) {
                std::thread::sleep(Duration::from_millis(20));
            }
            return Ok(());
        }
        Some(Fault::Http(status, text)) => (status, text.to_owned()),
        _ => (200, answer),
    };
    let date = clock.strftime("%a, %d %b %Y %H:%M:%S GMT");
    let half = matches!(fault, Some(Fault::Half));
    let sent = if half { &answer.as_bytes()[..answer.len() / 2] } else { answer.as_bytes() };
    write!(
        stream,
        "HTTP/1.1 {status} Whatever\r\nDate: {date}\r\nContent-Type: application/json;charset=UTF-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    )?;
    stream.write_all(sent)?;
    stream.flush()?;
    if !half {
        stream.conn.send_close_notify();
        stream.flush()?;
    }
    Ok(())
}

/// First line and body of a request.
fn received(
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
) -> std::io::Result<Option<(String, String)>> {
    let mut bytes = Vec::new();
    let mut step = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            if bytes.len() >= whole {
                let body = String::from_utf8_lossy(&bytes[end + 4..whole]).into_owned();
                return Ok(head.lines().next().map(|line| (line.to_owned(), body)));
            }
        }
        let read = stream.read(&mut step)?;
        if read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&step[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        let legs = (0..6).map(|n| leg(n, &format!("2025-03-12 10:0{n}:00"), 30)).collect();
        Device::start("Europe/Berlin", legs)
    }

    fn logged_in(state: &mut State) -> String {
        let challenge: Value = answer(state, &json!({"action": "challenge", "user": "cdrapi"}));
        let challenge = challenge["response"]["challenge"].as_str().expect("a text").to_owned();
        assert_eq!(challenge.len(), 16);
        let token = token(&challenge, &state.password);
        let login = answer(state, &json!({"action": "login", "user": "cdrapi", "token": token}));
        login["response"]["cookie"].as_str().expect("a cookie").to_owned()
    }

    fn answer(state: &mut State, request: &Value) -> Value {
        serde_json::from_str(&state.answer(&json!({"request": request}).to_string())).expect("JSON")
    }

    fn legs(state: &mut State, cookie: &str, more: &[(&str, &str)]) -> Vec<String> {
        let mut request = json!({"action": "cdrapi", "cookie": cookie, "format": "json"});
        for (name, value) in more {
            request[*name] = json!(value);
        }
        rows::ids(&answer(state, &request))
    }

    #[test]
    fn it_filters_by_start_or_end_and_says_nothing_where_the_device_says_nothing() {
        let device = device();
        let mut state = device.state();
        let cookie = logged_in(&mut state);
        let all = ["1000", "1001", "1002", "1003", "1004", "1005"];
        assert_eq!(legs(&mut state, &cookie, &[]), all);
        // Both bounds count.
        let bounds = [("startTime", "2025-03-12T10:01:00+01:00"), ("endTime", "2025-03-12T09:03:00Z")];
        assert_eq!(legs(&mut state, &cookie, &bounds), all[1..4]);
        let ends = [("startTime", "2025-03-12T10:01:00"), ("timeFilterType", "End")];
        assert_eq!(legs(&mut state, &cookie, &ends), all[1..]);
        assert_eq!(legs(&mut state, &cookie, &[("startTime", "2025-03-12 10:01:00")]), [""; 0]);
        assert_eq!(legs(&mut state, &cookie, &[("start_time", "2026-01-01T00:00")]), all, "no parameter");
        let beside = json!({"request": {"action": "cdrapi", "cookie": cookie, "format": "json"},
                            "startTime": "2026-01-01T00:00"});
        let beside = serde_json::from_str(&state.answer(&beside.to_string())).expect("JSON");
        assert_eq!(rows::ids(&beside), all, "beside the request");
        let paged = [("numRecords", "4"), ("offset", "4")];
        assert_eq!(legs(&mut state, &cookie, &paged), all[4..]);
    }

    #[test]
    fn a_session_dies_and_the_fourth_wrong_password_locks() {
        let device = device();
        let mut state = device.state();
        state.cookie_life = 1;
        let cookie = logged_in(&mut state);
        assert_eq!(legs(&mut state, &cookie, &[]).len(), 6);
        let request = json!({"action": "cdrapi", "cookie": cookie, "format": "json"});
        assert_eq!(answer(&mut state, &request)["status"], -6);
        for left in [3, 2, 1, 0] {
            answer(&mut state, &json!({"action": "challenge", "user": "cdrapi"}));
            let wrong = json!({"action": "login", "user": "cdrapi", "token": "0".repeat(32)});
            let said = answer(&mut state, &wrong);
            assert_eq!((&said["status"], &said["response"]["remain_num"]), (&json!(-37), &json!(left)));
        }
        assert!(state.locked_out());
    }

    #[test]
    fn groups_are_one_row_off_and_offsets_count_groups() {
        let mut rows = Vec::new();
        for (n, session) in ["a", "b", "b", "b", "c", "c"].iter().enumerate() {
            let mut row = leg(n, &format!("2025-03-12 10:0{n}:00"), 30);
            row.insert("session".to_owned(), json!(session));
            rows.push(row);
        }
        let filter = Filter { count: 2, ..Filter::default() };
        let shape = Shape { grouped: true, ..Shape::default() };
        let first = page(&rows, &filter, shape);
        let groups = first["cdr_root"].as_array().expect("groups").clone();
        assert_eq!(groups.len(), 2);
        // Sessions have 1, 3 and 2 rows; the groups 3, 2 and 1.
        assert_eq!(rows::ids(&groups[0]), ["1000", "1001", "1002"]);
        assert_eq!(rows::ids(&groups[1]), ["1003", "1004"]);
        assert_eq!(groups[0]["main_cdr"]["AcctId"], "");
        let rest = page(&rows, &Filter { count: 2, offset: 2, ..Filter::default() }, shape);
        assert_eq!(rows::ids(&rest), ["1005"]);
    }
}
