use super::*;

fn permits(allowed: &[&str], denied: &[&str]) -> Permits {
    let rules = |texts: &[&str]| -> Vec<TopicRule> {
        let rules = texts.iter().map(|text| text.parse().expect(text));
        rules.collect()
    };
    Permits::new(&rules(allowed), &rules(denied), "ann")
}

fn narrowed(permits: &Permits, topic: &str) -> Vec<String> {
    let left = permits.narrow(topic.as_bytes()).into_iter();
    left.map(|topic| String::from_utf8_lossy(&topic).into_owned())
        .collect()
}

#[test]
fn denied_topics_come_before_permitted_ones() {
    let permits = permits(&["a", "=b", "u/%u/"], &["ab", "=ac"]);
    for (topic, expected) in [
        ("", false),
        ("a", true),
        ("ab", false),
        ("abc", false),
        ("ac", false),
        ("acc", true),
        ("b", true),
        ("bb", false),
        ("u/ann/x", true),
        ("u/bob/x", false),
    ] {
        assert_eq!(permits.has(topic.as_bytes()), expected, "{topic}");
    }
}

#[test]
fn a_role_permits_nothing_that_it_does_not_name() {
    let none = permits(&[], &[]);
    assert!(!none.has(b"") && narrowed(&none, "").is_empty());
    assert!(permits(&[""], &[]).is_everything());
    assert!(!permits(&[""], &["=x"]).is_everything());
    assert!(!permits(&["="], &[]).is_everything());
}

#[test]
fn the_prefix_of_a_user_without_a_name_permits_nothing() {
    let rules: Vec<TopicRule> = vec!["%u".parse().expect("a rule")];
    assert!(!Permits::new(&rules, &[], "").has(b"x"));
    assert!(!Permits::new(&["".parse().expect("a rule")], &rules, "").has(b"x"));
}

#[test]
fn a_broad_subscription_is_narrowed_to_what_is_permitted_within_it() {
    let permits = permits(&["a.", "b", "=c", "=cc", "ba", "=bb"], &["a.x", "=cc"]);
    assert_eq!(narrowed(&permits, ""), ["a.", "b", "c"]);
    assert_eq!(narrowed(&permits, "a"), ["a."]);
    assert_eq!(narrowed(&permits, "a.y"), ["a.y"]);
    assert!(narrowed(&permits, "a.x").is_empty());
    assert!(narrowed(&permits, "a.xx").is_empty());
    assert_eq!(narrowed(&permits, "bab"), ["bab"]);
    assert_eq!(narrowed(&permits, "c"), ["c"]);
    assert!(narrowed(&permits, "cc").is_empty());
    assert!(narrowed(&permits, "d").is_empty());
    assert!(permits.needs_filter());
}

/// The narrowed subscriptions and the filter together leave exactly what is wanted and permitted.
#[test]
fn narrowing_loses_nothing_and_adds_nothing() {
    let words: Vec<String> = (0..4)
        .flat_map(|len| (0..1 << len).map(move |bits| (len, bits)))
        .map(|(len, bits)| {
            (0..len)
                .map(|bit| if bits >> bit & 1 == 1 { 'a' } else { 'b' })
                .collect()
        })
        .collect();
    let mut number = 7_u64;
    let mut pick = |count: usize| -> Vec<String> {
        (0..count)
            .map(|_| {
                number = number
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(99);
                let word = &words[(number >> 33) as usize % words.len()];
                let is_exact = number >> 60 & 1 == 1;
                format!("{}{word}", if is_exact { "=" } else { "" })
            })
            .collect()
    };
    for round in 0..2000 {
        let (allowed, denied) = (pick(round % 4), pick(round % 3));
        let allowed: Vec<&str> = allowed.iter().map(|it| &**it).collect();
        let denied: Vec<&str> = denied.iter().map(|it| &**it).collect();
        let permits = permits(&allowed, &denied);
        for wanted in &words {
            let left = permits.narrow(wanted.as_bytes());
            for topic in &words {
                let matches = left.iter().any(|it| topic.as_bytes().starts_with(it));
                let passes = !permits.needs_filter() || permits.has(topic.as_bytes());
                let is_due = topic.starts_with(&**wanted) && permits.has(topic.as_bytes());
                assert_eq!(
                    matches && passes,
                    is_due,
                    "{wanted:?} of {topic:?}: {allowed:?} without {denied:?}"
                );
            }
        }
    }
}

#[test]
fn a_decision_is_kept_for_its_topic_alone() {
    let mut verdicts = Verdicts::default();
    let mut count = 0;
    for _ in 0..3 {
        assert!(verdicts.of(b"a", || {
            count += 1;
            true
        }));
    }
    assert_eq!(count, 1, "one decision for a topic");
    assert!(!verdicts.of(b"", || false));
    assert!(!verdicts.of(b"a\0", || false));
    for byte in 0..=u8::MAX {
        let may = byte % 3 == 0;
        assert_eq!(verdicts.of(&[byte; 5], || may), may);
        assert_eq!(verdicts.of(&[byte; 5], || !may), may);
        let long = [byte; VERDICT_SIZE_MAX + 1];
        assert!(verdicts.of(&long, || true) && !verdicts.of(&long, || false));
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "any instant works: the test moves it"
)]
fn a_bucket_has_a_seconds_worth_and_fills_at_its_rate() {
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let mut bucket = Bucket::new(10, start);
    assert_eq!(bucket.level(start), 10);
    bucket.take(10, start);
    assert_eq!((bucket.level(start), bucket.level(after(99))), (0, 0));
    assert_eq!(bucket.ready_at(), after(100));
    assert_eq!((bucket.level(after(100)), bucket.level(after(350))), (1, 3));
    assert_eq!(
        bucket.level(after(5000)),
        10,
        "no more than a second's worth"
    );
    bucket.take(30, after(350));
    assert_eq!(bucket.level(after(1000)), 0, "a debt is paid first");
    assert!(bucket.level(bucket.ready_at()) == 1);
    let unlimited = Bucket::new(0, start);
    assert!(!unlimited.is_limited() && unlimited.level(start) == u64::MAX);
    let mut slow = Bucket::new(1, start);
    slow.take(u64::MAX, start);
    assert_eq!(slow.level(after(1)), 0);
}
