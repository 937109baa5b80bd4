//! Which paths a source file names, from which module, outside of test code.
//! It must never miss a spelling of a path: `use` trees with braces, `self`, `super`, `crate` and `$crate`, paths in the
//! middle of code and in the strings of attributes.

use super::lexer::{Placed, Token, tokens};

/// A file of `src/`.
pub struct SourceFile {
    /// Path below `src/`, with `/`.
    pub name: String,
    /// Contents.
    pub text: String,
}

/// A path that code names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Where.
    pub line: usize,
    /// Resolved: begins with `crate` when it leads into this crate; as written otherwise.
    pub path: Vec<String>,
}

/// What was found in a file.
#[derive(Debug, Default)]
pub struct Scan {
    /// Paths that code names, test code left out.
    pub mentions: Vec<Mention>,
    /// Words and texts of code, test code left out.
    pub words: Vec<(String, usize)>,
    /// Modules that are compiled for tests only: their files are test code.
    pub test_modules: Vec<Vec<String>>,
    /// Things that would hide edges from this resolver.
    pub blind_spots: Vec<(String, usize)>,
}

impl SourceFile {
    /// Module path; empty for `lib.rs` and `main.rs`.
    pub fn module(&self) -> Vec<String> {
        let stem = self.name.trim_end_matches(".rs");
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        if matches!(stem, "lib" | "main") {
            return Vec::new();
        }
        stem.split('/').map(str::to_owned).collect()
    }

    /// Finds all mentions.
    pub fn scan(&self) -> Scan {
        let tokens = tokens(&self.text);
        let whole_file_is_test = tokens.len() > 2 && tokens[1].0.marks('!') && is_test_cfg(&tokens[2..]);
        if whole_file_is_test {
            return Scan { test_modules: vec![self.module()], ..Scan::default() };
        }
        let in_main = self.name == "main.rs";
        let mut scanner =
            Scanner { tokens, at: 0, module: self.module(), open: vec![], in_main, scan: Scan::default() };
        while scanner.at < scanner.tokens.len() {
            scanner.step();
        }
        scanner.scan
    }
}

/// Whether tokens from a `[` on say `[cfg(test)]`, also inside `all` or `any`, but not `not(test)`.
fn is_test_cfg(tokens: &[Placed]) -> bool {
    let opens = tokens.first().is_some_and(|(token, _)| token.marks('['));
    let cfg = tokens.get(1).is_some_and(|(token, _)| token.is("cfg"));
    let inside = || tokens.iter().take_while(|(token, _)| !token.marks(']'));
    opens && cfg && inside().any(|(token, _)| token.is("test")) && !inside().any(|(token, _)| token.is("not"))
}

struct Scanner {
    tokens: Vec<Placed>,
    at: usize,
    module: Vec<String>,
    /// For each open brace whether it opened an inline module.
    open: Vec<bool>,
    in_main: bool,
    scan: Scan,
}

impl Scanner {
    fn token(&self, place: usize) -> Option<&Token> {
        self.tokens.get(place).map(|(token, _)| token)
    }

    fn word(&self, place: usize) -> Option<&str> {
        match self.token(place) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn marks(&self, place: usize, mark: char) -> bool {
        self.token(place).is_some_and(|token| token.marks(mark))
    }

    fn step(&mut self) {
        let (token, line) = self.tokens[self.at].clone();
        match token {
            Token::Mark('#') if self.marks(self.at + 1, '[') => self.attribute(),
            Token::Mark('{') => {
                self.open.push(false);
                self.at += 1;
            }
            Token::Mark('}') => {
                if self.open.pop() == Some(true) {
                    self.module.pop();
                }
                self.at += 1;
            }
            Token::Word(word) => self.on_word(&word, line),
            Token::Text(text) => {
                self.scan.words.push((text, line));
                self.at += 1;
            }
            _ => self.at += 1,
        }
    }

    fn on_word(&mut self, word: &str, line: usize) {
        self.scan.words.push((word.to_owned(), line));
        match word {
            "mod" if self.marks(self.at + 2, '{') => {
                self.module.extend(self.word(self.at + 1).map(str::to_owned));
                self.open.push(true);
                self.at += 3;
            }
            // `use<'a>` of an opaque type imports nothing.
            "use" if !self.marks(self.at + 1, '<') => {
                self.at += 1;
                self.use_tree(&[]);
            }
            // `pub(in crate::a)` imports nothing.
            "pub" if self.marks(self.at + 1, '(') => self.skip_group(self.at + 1),
            "include" if self.marks(self.at + 1, '!') => {
                self.scan.blind_spots.push(("include!".to_owned(), line));
                self.at += 1;
            }
            _ => self.path(line),
        }
    }

    /// A path in code; `self.at` stands at its first or a later word.
    fn path(&mut self, line: usize) {
        let continues = self.at > 1
            && self.token(self.at - 1) == Some(&Token::Colons)
            && (self.word(self.at - 2).is_some() || self.marks(self.at - 2, '>'));
        let mut path: Vec<String> = self.word(self.at).map(str::to_owned).into_iter().collect();
        self.at += 1;
        while self.token(self.at) == Some(&Token::Colons)
            && let Some(next) = self.word(self.at + 1).map(str::to_owned)
        {
            self.scan.words.push((next.clone(), line));
            path.push(next);
            self.at += 2;
        }
        // A lone word is a local name; `crate` alone (`extern crate self`) gives the root another name.
        if !continues && (path.len() > 1 || path[0] == "crate") {
            self.mention(path, line);
        }
    }

    /// One `use` tree up to its `,`, `}` or `;`.
    fn use_tree(&mut self, prefix: &[String]) {
        let mut path = prefix.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |(_, line)| *line);
        loop {
            match self.token(self.at).cloned() {
                Some(Token::Word(word)) if word == "as" => self.at += 2,
                Some(Token::Word(word)) => {
                    self.scan.words.push((word.clone(), line));
                    path.push(word);
                    self.at += 1;
                }
                Some(Token::Colons) => self.at += 1,
                Some(Token::Mark('*')) => {
                    path.push("*".to_owned());
                    self.at += 1;
                }
                Some(Token::Mark('{')) => {
                    self.at += 1;
                    while !self.marks(self.at, '}') && self.at < self.tokens.len() {
                        self.use_tree(&path);
                        self.at += usize::from(self.marks(self.at, ','));
                    }
                    self.at += 1;
                    return;
                }
                _ => break,
            }
        }
        if path.len() > prefix.len().max(1) && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        self.mention(path, line);
    }

    fn mention(&mut self, path: Vec<String>, line: usize) {
        let path = self.resolve(path);
        self.scan.mentions.push(Mention { line, path });
    }

    fn resolve(&self, path: Vec<String>) -> Vec<String> {
        let mut base = match path[0].as_str() {
            "crate" if !self.in_main => Vec::new(),
            // The executable names the library by its name.
            "cdrd" if self.in_main => Vec::new(),
            "self" | "super" => self.module.clone(),
            // In the root every module has its bare name.
            _ if self.module.is_empty() && !self.in_main => {
                return [vec!["crate".to_owned()], path].concat();
            }
            _ => return path,
        };
        let mut rest = path.as_slice();
        if matches!(path[0].as_str(), "crate" | "cdrd" | "self") {
            rest = &rest[1..];
        }
        while rest.first().is_some_and(|word| word == "super") {
            base.pop();
            rest = &rest[1..];
        }
        let mut resolved = vec!["crate".to_owned()];
        resolved.extend(base);
        resolved.extend(rest.iter().cloned());
        resolved
    }

    /// Skips test code; looks into the strings of other attributes.
    fn attribute(&mut self) {
        let bracket = self.at + 1;
        let (line, end) = (self.tokens[self.at].1, self.end_of_group(bracket));
        if is_test_cfg(&self.tokens[bracket..]) {
            self.at = end;
            self.skip_item();
            return;
        }
        if self.word(bracket + 1) == Some("path") {
            self.scan.blind_spots.push(("#[path]".to_owned(), line));
        }
        for place in bracket..end {
            if let Some(Token::Text(text)) = self.token(place)
                && text.contains("::")
                && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
            {
                let path = text.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect();
                self.mention(path, line);
            }
        }
        // Paths outside of strings (`#[derive(a::B)]`) are read as code.
        self.at = bracket + 1;
    }

    /// Behind the item that starts here: its `;` or its closing brace. Attributes before it are skipped too.
    fn skip_item(&mut self) {
        while self.marks(self.at, '#') {
            self.at = self.end_of_group(self.at + 1);
        }
        let mut place = self.at;
        while matches!(self.word(place), Some("pub")) || self.marks(place, '(') {
            place = if self.marks(place, '(') { self.end_of_group(place) } else { place + 1 };
        }
        let imports = self.word(place) == Some("use");
        if self.word(place) == Some("mod") && self.marks(place + 2, ';') {
            let mut module = self.module.clone();
            module.extend(self.word(place + 1).map(str::to_owned));
            self.scan.test_modules.push(module);
        }
        while self.at < self.tokens.len() {
            match self.token(self.at) {
                Some(Token::Mark(';')) => {
                    self.at += 1;
                    return;
                }
                Some(Token::Mark('{')) if !imports => {
                    self.skip_group(self.at);
                    return;
                }
                Some(Token::Mark('(' | '[' | '{')) => self.skip_group(self.at),
                _ => self.at += 1,
            }
        }
    }

    fn skip_group(&mut self, opening: usize) {
        self.at = self.end_of_group(opening);
    }

    /// The place behind the bracket that closes the one at `opening`.
    fn end_of_group(&self, opening: usize) -> usize {
        let mut depth = 0_usize;
        for place in opening..self.tokens.len() {
            match self.token(place) {
                Some(Token::Mark('(' | '[' | '{')) => depth += 1,
                Some(Token::Mark(')' | ']' | '}')) => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return place + 1;
            }
        }
        self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::SourceFile;

    fn named(name: &str, text: &str) -> Vec<String> {
        let file = SourceFile { name: name.to_owned(), text: text.to_owned() };
        file.scan().mentions.into_iter().map(|mention| mention.path.join("::")).collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        assert_eq!(
            named(
                "a/b.rs",
                "pub use crate::{record::{self, card::Card as C, field::*}, store::X}; use super::c::{d};"
            ),
            [
                "crate::record",
                "crate::record::card::Card",
                "crate::record::field::*",
                "crate::store::X",
                "crate::a::c::d"
            ]
        );
        assert_eq!(
            named("a/mod.rs", "use self::b::C; use super::d; use ::std::fs;"),
            ["crate::a::b::C", "crate::d", "std::fs"]
        );
    }

    #[test]
    fn paths_in_code_are_found() {
        assert_eq!(
            named(
                "a/b.rs",
                "fn f(x: &'a crate::c::D) -> <super::super::e::F as G>::H { std::fs::read(x.crate_) }"
            ),
            ["crate::c::D", "crate::e::F", "std::fs::read"]
        );
        assert_eq!(
            named("a.rs", "fn f() { Vec::<super::b::C>::new(); m!($crate::d::e); }"),
            ["crate::b::C", "crate::d::e"]
        );
        assert_eq!(
            named("a.rs", "#[serde(with = \"crate::b::c\", rename = \"x\")] struct S;"),
            ["crate::b::c"]
        );
        assert_eq!(named("a.rs", "#[derive(x::Y)] struct S;"), ["x::Y"]);
        assert_eq!(named("main.rs", "fn main() { cdrd::cli::run(); }"), ["crate::cli::run"]);
        assert_eq!(named("lib.rs", "fn f() { store::open() }"), ["crate::store::open"]);
    }

    #[test]
    fn inline_modules_count_as_levels() {
        assert_eq!(
            named(
                "a.rs",
                "mod b { fn f() { super::super::c::d() } mod e { use super::super::super::g; } } use super::h::i;"
            ),
            ["crate::c::d", "crate::g", "crate::h::i"]
        );
    }

    #[test]
    fn what_imports_nothing_is_no_mention() {
        assert!(
            named("a.rs", "pub(in crate::b) fn f() -> impl X + use<'_> { \"crate::c::d\" } // crate::e::f")
                .is_empty()
        );
    }

    #[test]
    fn test_code_may_use_more() {
        let text = "use crate::a::A; #[cfg(test)] use crate::b::{B, BB}; #[cfg(test)] #[x] mod tests { use crate::c::C; }\n\
                    #[cfg(all(test, unix))] pub(crate) mod more; #[cfg(not(test))] use crate::d::D; use crate::e::E;";
        assert_eq!(named("x/mod.rs", text), ["crate::a::A", "crate::d::D", "crate::e::E"]);
        let file = SourceFile { name: "x/mod.rs".to_owned(), text: text.to_owned() };
        assert_eq!(file.scan().test_modules, [["x", "more"]]);
        assert!(named("x/y.rs", "#![cfg(test)] use crate::c::C;").is_empty());
    }

    #[test]
    fn what_blinds_the_resolver_is_reported() {
        let file = SourceFile {
            name: "a.rs".to_owned(),
            text: "#[path = \"x.rs\"] mod b;\ninclude!(\"y\");".to_owned(),
        };
        assert_eq!(file.scan().blind_spots, [("#[path]".to_owned(), 1), ("include!".to_owned(), 2)]);
    }
}
