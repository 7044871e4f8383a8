//! "Did you mean": the known name nearest to an unknown one.

/// The end of an error about an unknown name: the nearest of the `known` names, or all of them.
#[must_use]
pub fn hint(name: &str, known: &[&str]) -> String {
    match beginning(name, known).or_else(|| nearest(name, known)) {
        Some(candidate) => format!("did you mean \"{candidate}\"?"),
        None => format!("write one of {}", known.join(", ")),
    }
}

/// The only known name that begins with `name`.
fn beginning<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let mut longer = known.iter().filter(|candidate| {
        let start = candidate.get(..name.len());
        name.len() > 1 && start.is_some_and(|start| start.eq_ignore_ascii_case(name))
    });
    longer.next().copied().filter(|_| longer.next().is_none())
}

/// The known name with the fewest differences, if at most a third differs.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // A name many times as long as a candidate is not close to it, so it is not compared.
    let is_close = |candidate: &&&str| name.len() <= 6 * candidate.len();
    let nearest = known
        .iter()
        .filter(is_close)
        .map(|candidate| (distance(name, candidate), *candidate))
        .min_by_key(|(distance, _)| *distance);
    nearest
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3)
        .map(|(_, candidate)| candidate)
}

/// The number of letters to insert, remove or replace between two names; case does not count.
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
        let kinds = ["queue", "forwarder", "streamer"];
        assert_eq!(hint("QUE", &kinds), "did you mean \"queue\"?");
        let several = ["sndhwm", "sndhwm_bytes"];
        assert_eq!(hint("snd", &several), "write one of sndhwm, sndhwm_bytes");
    }
}
