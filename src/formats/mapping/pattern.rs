//! Patterns of a stanza: `*` stands for any run of characters, `?` for one.

/// A pattern; letters count as equal whatever their case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternConfig(Vec<char>);

impl PatternConfig {
    /// Every text is a pattern.
    pub fn new(text: &str) -> Self {
        Self(text.to_lowercase().chars().collect())
    }

    /// Whether the whole text looks like this. Goes back to the last `*` only, so that no text takes long.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let (mut at, mut place) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(place) {
                Some('*') => {
                    star = Some((place, at));
                    place += 1;
                }
                Some(wanted) if *wanted == '?' || *wanted == text[at] => {
                    at += 1;
                    place += 1;
                }
                _ => {
                    let Some((back, from)) = star else { return false };
                    star = Some((back, from + 1));
                    (place, at) = (back + 1, from + 1);
                }
            }
        }
        self.0.get(place..).is_some_and(|rest| rest.iter().all(|left| *left == '*'))
    }
}

#[cfg(test)]
mod tests {
    use super::PatternConfig;
    use proptest::prelude::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, fits) in [
            ("Total*", "TOTAL of 5", true),
            ("Total*", "a total", false),
            ("*total", "a total", true),
            ("20??-*-01,*", "2026-03-01,x", true),
            ("20??", "20261", false),
            ("*a*b", "aab", true),
            ("", "", true),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(PatternConfig::new(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_stars_is_its_own_pattern(text in "[a-z0-9,;]{0,20}", other in "[a-z0-9,;]{0,20}") {
            prop_assert!(PatternConfig::new(&text).matches(&text));
            prop_assert_eq!(PatternConfig::new(&text).matches(&other), text == other);
            let around = PatternConfig::new(&format!("*{text}*"));
            let within = format!("{other}{text}{other}");
            prop_assert!(around.matches(&within));
        }
    }
}
