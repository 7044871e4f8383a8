//! "Did you mean": the known name nearest to one that is not known.

/// The end of a sentence about an unknown name: the nearest of `known`, or all of them.
pub(crate) fn hint(name: &str, known: &[&str]) -> String {
    // Nothing is near a name of many times its length, whose letters need not be counted.
    let is_close = |candidate: &&&str| name.len() <= 6 * candidate.len();
    let nearest = known
        .iter()
        .filter(is_close)
        .map(|candidate| (distance(name, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3);
    match nearest {
        Some((_, candidate)) => format!("did you mean \"{candidate}\"?"),
        None => format!("write one of {}", known.join(", ")),
    }
}

/// Letters to insert, remove or replace between two names, whatever their case.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.to_lowercase().chars().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("queue", "queue", 0),
            ("Queue", "queue", 0),
            ("quee", "queue", 1),
            ("kitten", "sitting", 3),
            ("", "bind", 4),
            ("bind", "", 4),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_near_name_is_offered_and_otherwise_all() {
        assert_eq!(
            hint("binds", &["bind", "connect"]),
            "did you mean \"bind\"?"
        );
        assert_eq!(
            hint("color", &["bind", "connect"]),
            "write one of bind, connect"
        );
    }
}
