//! Short, distinct labels for several bars.

use std::collections::HashSet;

use super::plain;

/// A label for each name, at most `longest` characters wide. Numbered in the order of the names if they would not be
/// distinct.
pub(super) fn labels(names: &[String], longest: usize) -> Vec<String> {
    let names: Vec<String> = names.iter().map(|name| plain::escaped(name)).collect();
    let whole = distinguished(&names);
    let short: Vec<String> = whole.iter().map(|name| shortened(name, longest)).collect();
    if short.iter().collect::<HashSet<_>>().len() == short.len() {
        return short;
    }
    let numbered = |(position, name): (usize, &String)| {
        let number = format!("{}:", position + 1);
        number.clone() + &shortened(name, longest.saturating_sub(number.len()))
    };
    whole.iter().enumerate().map(numbered).collect()
}

/// Names without the segments that all have in common, or without collections if some are deeper than others; the id
/// always stays.
fn distinguished(names: &[String]) -> Vec<String> {
    let segments: Vec<Vec<&str>> = names.iter().map(|name| name.split('/').collect()).collect();
    let Some(first) = segments.first() else { return Vec::new() };
    if segments.iter().any(|other| other.len() != first.len()) {
        // Drop collections first; names that are equal without them are numbered.
        let ids = |name: &Vec<&str>| {
            name.iter().skip(1).step_by(2).copied().collect::<Vec<_>>().join("/")
        };
        return segments.iter().map(ids).collect();
    }
    let differs = |position: usize| segments.iter().any(|other| other[position] != first[position]);
    let kept: Vec<usize> = (0..first.len())
        .filter(|position| position + 1 == first.len() || differs(*position))
        .collect();
    let of_kept = |name: &Vec<&str>| {
        kept.iter().map(|position| name[*position]).collect::<Vec<_>>().join("/")
    };
    segments.iter().map(of_kept).collect()
}

/// Shortens a long name to its start and its end; the end is longer, since it differs more.
fn shortened(name: &str, longest: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= longest {
        return name.to_owned();
    }
    let kept = longest.saturating_sub(2);
    let start = (kept * 4 / 9).min(kept);
    let (start, end) = (&letters[..start], &letters[letters.len() - (kept - start)..]);
    let both: String = start.iter().chain(&['.', '.']).chain(end).collect();
    both.chars().take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], longest: usize) -> Vec<String> {
        labels(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), longest)
    }

    #[test]
    fn what_all_names_share_is_left_out() {
        assert_eq!(of(&["operations/a", "operations/b"], 20), ["a", "b"]);
        assert_eq!(of(&["projects/p/operations/a", "projects/p/operations/b"], 20), ["a", "b"]);
        assert_eq!(of(&["projects/p/operations/a"], 20), ["a"]);
        assert_eq!(
            of(&["operations/a", "projects/p/operations/b", "folders/f/operations/b"], 30),
            ["a", "p/b", "f/b"]
        );
    }

    #[test]
    fn names_that_differ_only_in_their_parents_do_not_look_the_same() {
        let id = "0b5c8c2e-7f5f-4b3f-9d0e-2f6d3f1c9a77";
        let name = |project: &str| format!("projects/{project}/operations/{id}");
        let short = of(&["projects/east/operations/x", "projects/west/operations/x"], 20);
        assert_eq!(short, ["east/x", "west/x"]);
        let long = of(&[&name("a-project-in-the-east"), &name("a-project-in-the-west")], 20);
        assert_eq!(long, ["1:a-proje..d3f1c9a77", "2:a-proje..d3f1c9a77"]);
        for longest in 0..60 {
            let names = [name("east"), name("a-long-one-in-the-west"), name("west"), name("west")];
            let labels = labels(&names, longest);
            assert_eq!(labels.iter().collect::<HashSet<_>>().len(), 4, "{longest}: {labels:?}");
            assert!(labels.iter().all(|label| label.len() <= longest.max(2)), "{labels:?}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_keeps_its_start_and_its_end() {
        let name = "operations/0b5c8c2e-7f5f-4b3f-9d0e-2f6d3f1c9a77";
        assert_eq!(of(&[name], 20), ["0b5c8c2e..6d3f1c9a77"]);
    }
}
