//! What goes to standard output: tables that fit a terminal, tab-separated lines in a pipe, JSON lines on request.
//! Text from outside never reaches a terminal unescaped. Colours only add to what the words say: they are for a person
//! at a terminal, and never in a pipe.

use crate::record::delivery::shown;
use crate::store::query::{Table, Value};
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Width, presets};
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, Write};

/// Columns that people copy or compare: never broken over lines.
const SOLID: [&str; 4] = ["id", "started", "state", "reason"];
/// Words up to this long are not broken either: a telephone number has sixteen characters. Where the terminal is too
/// narrow for that, shorter ones are; a longer one always is, or no path would fit.
const LONGEST_WORDS: [usize; 2] = [16, 12];
/// Where the terminal does not tell its width.
const USUAL_WIDTH: usize = 80;

/// Standard output, or whatever stands in for it in a test.
pub struct Screen {
    out: Box<dyn Write>,
    terminal: bool,
    colour: bool,
    /// Columns, where they are not asked for.
    fixed_width: Option<usize>,
}

/// What a text is to a reader; a terminal shows it by a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As any other.
    Plain,
    /// What follows belongs to it.
    Heading,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Somebody must act.
    Bad,
    /// Beside the point.
    Faint,
}

impl Tone {
    /// Of the words for states and outcomes.
    fn of(word: &str) -> Self {
        match word {
            "done_with_rejects" | "retrying" | "no_answer" | "busy" | "cancelled" | "unknown" => {
                Self::Warning
            }
            "rejected" | "stopped" | "failed" => Self::Bad,
            "repeated" | "empty" | "off" => Self::Faint,
            _ => Self::Plain,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "1",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Faint => "2",
        }
    }
}

impl Screen {
    /// Standard output.
    pub fn standard() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        let colour = terminal && colours_are_welcome();
        Self { out: Box::new(BufWriter::new(out)), terminal, colour, fixed_width: None }
    }

    /// Something that is no terminal.
    pub fn plain(out: Box<dyn Write>) -> Self {
        Self { out, terminal: false, colour: false, fixed_width: None }
    }

    /// A terminal of this width that is none: what a person would see.
    pub fn like_a_terminal(out: Box<dyn Write>, width: usize, colour: bool) -> Self {
        Self { out, terminal: true, colour, fixed_width: Some(width) }
    }

    /// Whether a person looks at it.
    pub const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A text that is too long for the terminal goes on below its start; in a pipe it stays on one line. No text, no
    /// line.
    pub fn hanging(&mut self, start: &str, text: &str) -> io::Result<()> {
        self.toned((Tone::Plain, start), (Tone::Plain, text))
    }

    /// [`Self::hanging`] with a tone each.
    pub fn toned(&mut self, start: (Tone, &str), text: (Tone, &str)) -> io::Result<()> {
        if text.1.is_empty() {
            return Ok(());
        }
        let width = if self.terminal { self.width() } else { usize::MAX };
        let lines = hung(start.1, text.1, width);
        let (begin, rest) = lines.split_at(start.1.len());
        self.line(&format!("{}{}", self.paint(start.0, begin), self.paint(text.0, rest)))
    }

    /// The text in its tone, where colours are wanted.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour || tone == Tone::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", tone.code())
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// A table: drawn on a terminal, tab-separated with a header in a pipe.
    pub fn table(&mut self, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        if !self.terminal {
            writeln!(self.out, "{}", header.join("\t"))?;
            for row in rows {
                writeln!(self.out, "{}", row.join("\t"))?;
            }
            return Ok(());
        }
        let drawn = drawn(header, rows, self.width(), self.colour);
        self.out.write_all(drawn.as_bytes())
    }

    /// Columns of the terminal.
    pub fn width(&self) -> usize {
        if let Some(width) = self.fixed_width {
            return width;
        }
        let told = comfy_table::Table::new().width();
        columns_of(told, std::env::var("COLUMNS").ok().as_deref())
    }

    /// One JSON object on a line of its own.
    pub fn json(&mut self, columns: &[String], row: &[Value]) -> io::Result<()> {
        writeln!(self.out, "{}", json_object(columns, row))
    }

    /// A JSON value on a line of its own.
    pub fn json_value(&mut self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(self.out, "{value}")
    }

    /// All rows as JSON lines.
    pub fn json_table(&mut self, table: &Table) -> io::Result<()> {
        table.rows.iter().try_for_each(|row| self.json(&table.columns, row))
    }

    /// Writes out what is still buffered.
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A table that fits; where it cannot without breaking words, each row is a block of lines with a name before each value.
/// Columns that the terminal or else the environment tells; no terminal has none.
fn columns_of(told: Option<u16>, environment: Option<&str>) -> usize {
    let told = told.map(usize::from).filter(|columns| *columns > 0);
    let stated = || environment?.trim().parse().ok().filter(|columns| (1..=10_000).contains(columns));
    told.or_else(stated).unwrap_or(USUAL_WIDTH)
}

fn drawn(header: &[&str], rows: &[Vec<String>], width: usize, colour: bool) -> String {
    let widths = |longest: usize| -> Vec<usize> {
        header.iter().enumerate().map(|(place, name)| least_width(name, place, rows, longest)).collect()
    };
    // A blank on each side of a column, of which the last is not seen.
    let fits = |widths: &Vec<usize>| widths.iter().map(|least| least + 2).sum::<usize>() <= width + 1;
    let Some(widths) = LONGEST_WORDS.map(widths).into_iter().find(|widths| fits(widths) || rows.is_empty())
    else {
        return blocks(header, rows);
    };
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width + 1).unwrap_or(u16::MAX));
    // Whether colours are wanted was decided by whoever made the screen.
    if colour {
        table.enforce_styling();
        table.style_text_only();
    } else {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|name| Cell::new(name.to_uppercase()).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(row.iter().zip(header).map(|(text, name)| toned_cell(text, name)));
    }
    for (column, least) in table.column_iter_mut().zip(widths) {
        let width = Width::Fixed(u16::try_from(least + 2).unwrap_or(u16::MAX));
        column.set_constraint(ColumnConstraint::LowerBoundary(width));
    }
    format!("{}\n", table.trim_fmt())
}

/// Columns whose words have tones.
fn toned_cell(text: &str, column: &str) -> Cell {
    let cell = Cell::new(text);
    if !["state", "disposition", "outcome"].contains(&column) {
        return cell;
    }
    match Tone::of(text) {
        Tone::Bad => cell.fg(Color::DarkRed),
        Tone::Warning => cell.fg(Color::DarkYellow),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
        Tone::Good | Tone::Plain | Tone::Heading => cell,
    }
}

/// Whether whoever sits at the terminal wants colours.
pub fn colours_are_welcome() -> bool {
    let said = |name: &str| std::env::var(name).ok();
    colours(said("NO_COLOR").as_deref(), said("CLICOLOR").as_deref(), said("TERM").as_deref())
}

/// What the environment says of colours: <https://no-color.org> and the older `CLICOLOR` say how people refuse it.
fn colours(no_color: Option<&str>, clicolor: Option<&str>, term: Option<&str>) -> bool {
    no_color.is_none_or(str::is_empty) && clicolor != Some("0") && term != Some("dumb")
}

/// Breaks a text between words, or in a word that is longer than a line.
fn hung(start: &str, text: &str, width: usize) -> String {
    // Beside a start that takes most of the line nothing can be read.
    let indent = start.chars().count().min(width / 3 * 2);
    let mut lines = start.to_owned();
    let mut used = start.chars().count();
    let mut fresh = true;
    for word in text.split(' ') {
        let length = word.chars().count();
        if !fresh && used + 1 + length > width || fresh && used > indent && used + length > width {
            let _ = write!(lines, "\n{:indent$}", "");
            (used, fresh) = (indent, true);
        }
        if !fresh {
            lines.push(' ');
            used += 1;
        }
        for c in word.chars() {
            if used == width {
                let _ = write!(lines, "\n{:indent$}", "");
                used = indent;
            }
            lines.push(c);
            used += 1;
        }
        fresh = false;
    }
    lines
}

fn least_width(name: &str, place: usize, rows: &[Vec<String>], longest: usize) -> usize {
    let length = |text: &str| text.chars().count();
    let needed = |cell: &String| {
        if SOLID.contains(&name) {
            return length(cell);
        }
        cell.split(' ').map(length).max().unwrap_or(0).min(longest)
    };
    rows.iter().filter_map(|row| row.get(place)).map(needed).max().unwrap_or(0).max(length(name))
}

fn blocks(header: &[&str], rows: &[Vec<String>]) -> String {
    let longest = header.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        for (name, cell) in header.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
            let _ = writeln!(text, "{:<longest$}  {cell}", name.to_uppercase());
        }
        text.push('\n');
    }
    text
}

/// A row as a JSON object. Names that appear twice get `_2`, `_3`, so that nothing is lost.
pub fn json_object(columns: &[String], row: &[Value]) -> serde_json::Value {
    let mut object = serde_json::Map::with_capacity(row.len());
    for (name, value) in columns.iter().zip(row) {
        let mut free = name.clone();
        let mut number = 2;
        while object.contains_key(&free) {
            free = format!("{name}_{number}");
            number += 1;
        }
        object.insert(free, json(value));
    }
    object.into()
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Blob(bytes) => hex(bytes).into(),
    }
}

/// A value as a cell: safe for a terminal, one line, blobs in hexadecimal.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => shown(text),
        Value::Blob(bytes) => hex(bytes),
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Says on standard error what went wrong. Where it cannot be said, nobody listens.
pub fn complain(error: &anyhow::Error) {
    complain_of(&format!("{error:#}"));
}

/// A fault in words, on standard error.
pub fn complain_of(words: &str) {
    let _ = writeln!(io::stderr(), "cdrd: {words}");
}

/// Says on standard error what a person should know beside the result.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "cdrd: {text}");
}

/// A size for people.
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::{cell, colours, drawn, hung, json_object, size};
    use crate::store::query::Value;

    fn table(width: usize) -> String {
        let row = ["01JQ00000000000000000000A1", "2025-03-31 09:00:00Z", "a very long name.csv", "done"];
        drawn(&["id", "received", "name", "state"], &[row.map(str::to_owned).to_vec()], width, false)
    }

    #[test]
    fn colours_are_refused_by_whoever_does_not_want_them() {
        assert!(colours(None, None, Some("xterm")) && colours(Some(""), Some("1"), None));
        for (no_color, clicolor, term) in
            [(Some("1"), None, None), (None, Some("0"), None), (None, None, Some("dumb"))]
        {
            assert!(!colours(no_color, clicolor, term));
        }
    }

    #[test]
    fn a_table_breaks_between_words_and_becomes_blocks_where_it_cannot() {
        assert_eq!(
            table(100),
            " ID                          RECEIVED              NAME                  STATE\n \
             01JQ00000000000000000000A1  2025-03-31 09:00:00Z  a very long name.csv  done\n"
        );
        let narrow = table(68);
        assert!(narrow.lines().all(|line| line.chars().count() <= 68), "{narrow}");
        for word in ["RECEIVED", "STATE", "2025-03-31", "09:00:00Z", "name.csv"] {
            assert!(narrow.contains(word), "{word} is broken:\n{narrow}");
        }
        assert_eq!(
            table(40),
            "ID        01JQ00000000000000000000A1\nRECEIVED  2025-03-31 09:00:00Z\n\
             NAME      a very long name.csv\nSTATE     done\n\n"
        );
    }

    #[test]
    fn a_long_text_goes_on_below_its_start() {
        assert_eq!(hung("ab  ", "one two three", 12), "ab  one two\n    three");
        assert_eq!(hung("ab  ", "0123456789ab", 10), "ab  012345\n    6789ab");
        assert_eq!(hung("a very long start  ", "one", 12), "a very long start  \n        one");
        assert_eq!(hung("ab  ", "one  two", usize::MAX), "ab  one  two");
    }

    #[test]
    fn a_cell_never_moves_the_cursor_or_ends_the_line() {
        assert_eq!(cell(&Value::Text("a\u{1b}[2J\tb\n".to_owned())), "a\\x1b[2J\\x09b\\x0a");
        assert_eq!(cell(&Value::Blob(vec![0, 255])), "00ff");
    }

    #[test]
    fn columns_of_one_name_all_appear_in_json() {
        let columns = ["n".to_owned(), "n".to_owned()];
        let object = json_object(&columns, &[Value::Integer(1), Value::Null]);
        assert_eq!(object.to_string(), r#"{"n":1,"n_2":null}"#);
    }

    #[test]
    fn sizes_are_rounded_down_to_a_tenth() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(1_600_000), "1.5 MiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
    }

    #[test]
    fn a_terminal_without_columns_is_taken_for_a_usual_one() {
        for (told, environment, columns) in [
            (Some(100), Some("60"), 100),
            (Some(0), Some(" 60\n"), 60),
            (None, Some("60"), 60),
            (Some(0), None, 80),
            (Some(0), Some("0"), 80),
            (Some(0), Some("wide"), 80),
        ] {
            assert_eq!(super::columns_of(told, environment), columns);
        }
    }
}
