//! What the device lists: which rows a request means, and how they are put into an answer.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::{Map, Value, json};

/// How an answer is built.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, all combinations occur")]
pub struct Shape {
    /// In `main_cdr` and `sub_cdr_N`, one row off; else one object for each leg.
    pub grouped: bool,
    /// `{"response": {...}, "status": 0}` instead of the bare member.
    pub in_response: bool,
    /// `status` beside the member.
    pub with_status: bool,
    /// The member is `cdr`, as in 2013.
    pub legacy: bool,
    /// No member at all where there are no calls.
    pub missing_when_empty: bool,
}

impl Shape {
    /// An answer without calls.
    pub fn empty(self) -> Value {
        self.wrapped(Vec::new())
    }

    fn wrapped(self, elements: Vec<Value>) -> Value {
        let mut member = Map::new();
        if !(elements.is_empty() && self.missing_when_empty) {
            member.insert(if self.legacy { "cdr" } else { "cdr_root" }.to_owned(), Value::Array(elements));
        }
        if self.in_response {
            return json!({"response": member, "status": 0});
        }
        if self.with_status {
            member.insert("status".to_owned(), json!(0));
        }
        Value::Object(member)
    }
}

/// Which rows a request means.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Wall clock of the device, both bounds included.
    pub from: Option<DateTime>,
    pub to: Option<DateTime>,
    pub by_end: bool,
    pub offset: usize,
    pub count: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { from: None, to: None, by_end: false, offset: 0, count: 1000 }
    }
}

impl Filter {
    /// As the parameters say; `None` where the device answers as if there were no calls.
    pub fn of(request: &Value, zone: &TimeZone) -> Option<Self> {
        let text = |name: &str| match &request[name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let mut filter = Self::default();
        for (name, bound) in [("startTime", &mut filter.from), ("endTime", &mut filter.to)] {
            if let Some(text) = text(name) {
                *bound = Some(moment(&text, zone)?);
            }
        }
        if let Some(kind) = text("timeFilterType") {
            filter.by_end = kind == "End";
        }
        if let Some(offset) = text("offset") {
            filter.offset = offset.parse().ok()?;
        }
        if let Some(count) = text("numRecords") {
            filter.count = count.parse::<usize>().ok()?.min(1000);
        }
        Some(filter)
    }

    fn means(&self, row: &Map<String, Value>, from: Option<&str>, to: Option<&str>) -> bool {
        // Of one layout, so that their order is that of the texts.
        let at = row[if self.by_end { "end" } else { "start" }].as_str().expect("rows have times");
        from.is_none_or(|from| at >= from) && to.is_none_or(|to| at <= to)
    }
}

/// A time as the device reads it, on its own wall clock.
fn moment(text: &str, zone: &TimeZone) -> Option<DateTime> {
    let local = |at: Timestamp| at.to_zoned(zone.clone()).datetime();
    if text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Timestamp::from_second(text.parse().ok()?).ok().map(local);
    }
    // A date alone means midnight in UTC.
    if let (Ok(date), false) = (text.parse::<Date>(), text.contains(['T', ' '])) {
        return date.at(0, 0, 0, 0).to_zoned(TimeZone::UTC).ok().map(|zoned| local(zoned.timestamp()));
    }
    if !text.contains('T') {
        return None;
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(local(at));
    }
    text.parse::<DateTime>().ok()
}

/// The answer with the rows that are meant.
pub fn page(rows: &[Map<String, Value>], filter: &Filter, shape: Shape) -> Value {
    let text = |at: Option<DateTime>| at.map(|at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let (from, to) = (text(filter.from), text(filter.to));
    let within = |row: &&Map<String, Value>| filter.means(row, from.as_deref(), to.as_deref());
    let meant: Vec<&Map<String, Value>> = rows.iter().filter(within).collect();
    let elements = if shape.grouped { grouped(&meant) } else { flat(&meant) };
    shape.wrapped(elements.into_iter().skip(filter.offset).take(filter.count).collect())
}

fn flat(rows: &[&Map<String, Value>]) -> Vec<Value> {
    rows.iter().map(|row| Value::Object((*row).clone())).collect()
}

/// The device counts the rows of each session, forgets the first number, and cuts the list at the others.
fn grouped(rows: &[&Map<String, Value>]) -> Vec<Value> {
    let mut runs: Vec<usize> = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let same = n > 0 && rows[n - 1]["session"] == row["session"];
        match runs.last_mut() {
            Some(run) if same => *run += 1,
            _ => runs.push(1),
        }
    }
    if runs.len() > 1 {
        runs.rotate_left(1);
    }
    let mut groups = Vec::new();
    let mut left = rows;
    for run in runs {
        let (group, rest) = left.split_at(run);
        left = rest;
        if let [only] = group {
            groups.push(Value::Object((*only).clone()));
            continue;
        }
        let mut element = Map::new();
        element.insert("cdr".to_owned(), json!(""));
        // The summary is that of the first call of all, whatever the group holds.
        let mut main = rows[0].clone();
        for name in ["AcctId", "answer", "end", "disposition", "uniqueid", "channel", "dstchannel"] {
            main.insert(name.to_owned(), json!(""));
        }
        element.insert("main_cdr".to_owned(), Value::Object(main));
        for (n, row) in group.iter().enumerate() {
            let mut sub = (*row).clone();
            sub.shift_remove("cdr");
            element.insert(format!("sub_cdr_{}", n + 1), Value::Object(sub));
        }
        groups.push(Value::Object(element));
    }
    groups
}

/// The ids of all legs in an answer.
pub fn ids(answer: &Value) -> Vec<String> {
    match answer {
        Value::Array(values) => values.iter().flat_map(ids).collect(),
        Value::Object(members) => {
            let own = members.get("AcctId").and_then(Value::as_str).filter(|id| !id.is_empty());
            let own = own.map(str::to_owned).into_iter();
            own.chain(members.values().flat_map(ids)).collect()
        }
        _ => Vec::new(),
    }
}

/// The legs of a file of the API with one object for each leg.
pub fn legs_of(file: &std::path::Path) -> Vec<Map<String, Value>> {
    let bytes = std::fs::read(file).expect("a file of ours");
    let answer: Value = serde_json::from_slice(&bytes).expect("JSON");
    let legs = answer["cdr_root"].as_array().expect("the legs").iter();
    legs.map(|leg| leg.as_object().expect("an object").clone()).collect()
}

/// A leg that began at this wall clock and lasted so many seconds.
pub fn leg(number: usize, start: &str, lasted: i64) -> Map<String, Value> {
    let began: DateTime = start.replace(' ', "T").parse().expect("a wall clock");
    let ended = began.checked_add(jiff::SignedDuration::from_secs(lasted)).expect("this century");
    let written = |at: DateTime| at.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let epoch: Zoned = began.to_zoned(TimeZone::get("Europe/Berlin").expect("a zone")).expect("a time");
    let epoch = epoch.timestamp().as_second();
    let text = json!({
        "cdr": "", "AcctId": (1000 + number).to_string(), "accountcode": "", "src": "01632960123",
        "dst": (201 + number % 9).to_string(), "dcontext": "ext-did-1", "clid": "\"A. Caller\" <01632960123>",
        "channel": format!("PJSIP/trunk_1-{number:08x}"), "dstchannel": format!("PJSIP/{}-{number:08x}", 201 + number % 9),
        "lastapp": "Dial", "lastdata": "PJSIP/201,20", "start": written(began), "answer": written(began),
        "end": written(ended), "duration": lasted.to_string(), "billsec": lasted.to_string(),
        "disposition": "ANSWERED", "amaflags": "DOCUMENTATION", "uniqueid": format!("{epoch}.{number}"),
        "userfield": "Inbound", "channel_ext": "trunk_1", "dstchannel_ext": (201 + number % 9).to_string(),
        "service": "s", "caller_name": "A. Caller", "recordfiles": "", "dstanswer": "201",
        "session": format!("{epoch}{number:06}-01632960123"), "action_owner": "01632960123",
        "action_type": "DIAL", "src_trunk_name": "Spree SIP", "dst_trunk_name": "",
    });
    text.as_object().expect("an object").clone()
}
