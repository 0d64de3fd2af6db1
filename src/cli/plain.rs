//! Escapes texts for the terminal: texts from workers and callers must not control it. All commands print through here.

use std::fmt::Write;

/// A text as one line: control characters escaped, shortened if too long.
pub(super) fn line(text: &str) -> String {
    escaped(&cut(text, LONGEST_LINE))
}

/// A text that shares a line with others; shortened more.
pub(super) fn part(text: &str) -> String {
    cut(text, LONGEST_PART)
}

/// Equivalent JSON without characters that control a terminal.
pub(super) fn json(text: &str) -> String {
    // serde_json breaks lines between values only; within a text it escapes them.
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

/// A text with control and invisible characters escaped as in JSON.
pub(super) fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            '\t' => plain.push_str("\\t"),
            letter if is_unsafe(letter) => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(plain, "\\u{unit:04x}");
                }
            }
            letter => plain.push(letter),
        }
    }
    plain
}

/// Whether a character controls the terminal, is invisible, or reorders its neighbours.
pub(super) fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Characters of a line, before they are escaped: more than any name, label or reason of an error has.
pub(super) const LONGEST_LINE: usize = 2_000;
/// Characters of a part of a line.
const LONGEST_PART: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_upon_is_shown_on_one_line() {
        for (text, shown) in [
            ("plain \u{e9}\u{4e2d}\u{1f600}", "plain \u{e9}\u{4e2d}\u{1f600}"),
            ("a\r\n\tb", "a\\r\\n\\tb"),
            ("\u{1b}[2J\u{7}\u{7f}", "\\u001b[2J\\u0007\\u007f"),
            ("\u{9b}31m", "\\u009b31m"),
            ("\u{202e}\u{2066}\u{200f}\u{200b}\u{feff}", "\\u202e\\u2066\\u200f\\u200b\\ufeff"),
            ("\u{2028}", "\\u2028"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(line(text), shown);
        }
        let long = line(&"\n".repeat(LONGEST_LINE + 1));
        assert!(long.ends_with("\\n..."), "{long}");
        assert_eq!(part(&"x".repeat(1_000)).len(), LONGEST_PART + 3);
    }

    #[test]
    fn json_says_the_same_on_a_terminal() {
        let value = serde_json::json!({"\u{202e}k": ["\u{9b}2J\u{7f}", "a\nb", "\u{e0041}"]});
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = json(&text);
            assert!(!shown.chars().any(|letter| letter != '\n' && is_unsafe(letter)), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect(&shown), value);
        }
    }
}
