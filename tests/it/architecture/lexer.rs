//! Rust text to tokens, as far as finding paths needs it: comments vanish, strings and characters become one token.
//! It must never take the inside of a comment or a string for code.

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Identifier, keyword or number.
    Word(String),
    /// Contents of a string literal, escapes untouched.
    Text(String),
    /// `::`
    Colons,
    /// Any other character.
    Mark(char),
}

impl Token {
    /// Whether this is the word.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    /// Whether this is the mark.
    pub fn marks(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }
}

/// A token and its line, from 1.
pub type Placed = (Token, usize);

/// All tokens of a file.
pub fn tokens(text: &str) -> Vec<Placed> {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, line: 1, found: Vec::new() };
    while lexer.step() {}
    lexer.found
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    found: Vec<Placed>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn step(&mut self) -> bool {
        let Some(c) = self.peek(0) else { return false };
        let line = self.line;
        match c {
            '/' if self.peek(1) == Some('/') => self.line_comment(),
            '/' if self.peek(1) == Some('*') => self.block_comment(),
            '"' => {
                let text = self.string();
                self.found.push((Token::Text(text), line));
            }
            '\'' => self.quote(),
            ':' if self.peek(1) == Some(':') => {
                self.at += 2;
                self.found.push((Token::Colons, line));
            }
            c if c.is_alphanumeric() || c == '_' => self.word(line),
            c if c.is_whitespace() => {
                self.bump();
            }
            c => {
                self.bump();
                self.found.push((Token::Mark(c), line));
            }
        }
        true
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.bump();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.at += 2;
                }
                (None, _) => return,
                _ => {
                    self.bump();
                }
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// From the opening quote to behind the closing one.
    fn string(&mut self) -> String {
        let mut text = String::new();
        self.bump();
        while let Some(c) = self.bump() {
            match c {
                '"' => break,
                '\\' => {
                    text.push(c);
                    text.extend(self.bump());
                }
                c => text.push(c),
            }
        }
        text
    }

    /// A string without escapes; `self.at` stands at its first `#` or quote.
    fn raw_string(&mut self) -> String {
        let mut fence = 0;
        while self.peek(0) == Some('#') {
            self.bump();
            fence += 1;
        }
        self.bump();
        let mut text = String::new();
        while let Some(c) = self.bump() {
            if c == '"' && (0..fence).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += fence;
                break;
            }
            text.push(c);
        }
        text
    }

    /// A character literal vanishes; of a lifetime the quote does.
    fn quote(&mut self) {
        self.bump();
        if self.peek(0) == Some('\\') {
            self.at += 2;
            while self.bump().is_some_and(|c| c != '\'') {}
        } else if self.peek(1) == Some('\'') {
            self.bump();
            self.bump();
        } else {
            while self.peek(0).is_some_and(|c| c.is_alphanumeric() || c == '_') {
                self.bump();
            }
        }
    }

    fn word(&mut self, line: usize) {
        let mut word = String::new();
        while let Some(c) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
            self.bump();
        }
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        match self.peek(0) {
            Some('"') if raw => {
                let text = self.raw_string();
                self.found.push((Token::Text(text), line));
            }
            Some('#') if raw && matches!(self.peek(1), Some('"' | '#')) => {
                let text = self.raw_string();
                self.found.push((Token::Text(text), line));
            }
            // r#type is the identifier `type`, never a keyword.
            Some('#') if word == "r" => {
                self.bump();
            }
            Some('"') if matches!(word.as_str(), "b" | "c") => {}
            Some('\'') if word == "b" => {}
            _ => self.found.push((Token::Word(word), line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, tokens};

    fn words(text: &str) -> Vec<String> {
        tokens(text)
            .into_iter()
            .filter_map(|(token, _)| match token {
                Token::Word(word) => Some(word),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn comments_strings_and_characters_are_no_code() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(
            words(r##"a "b \" c" d r"e\" f r#"g " h"# i b"j" k br"l" m"##),
            ["a", "d", "f", "i", "k", "m"]
        );
        assert_eq!(
            words(r"a 'b' c '\'' d '\u{65}' e &'static f b'g' h '/' i"),
            ["a", "c", "d", "e", "f", "h", "i"]
        );
        assert_eq!(words("r#type + x1"), ["type", "x1"]);
        assert_eq!(words("a \"never ends"), ["a"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let found = tokens("/*\n*/ \"\n\" // \n 'x' last");
        assert_eq!(found.last(), Some(&(Token::Word("last".to_owned()), 4)));
    }
}
