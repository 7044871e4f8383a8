use super::*;
use crate::table::Handle;

const CURVE: &str = "mechanism-mismatch";
const LATE: &str = "handshake-timeout";

fn link(slot: u8) -> LinkId {
    LinkId::new(u32::from(slot), 0)
}

fn closed(label: &'static str, last: u8) -> Key {
    Key {
        subject: Subject::Closed,
        side: SocketName::Frontend,
        label,
        source: Source::Address([10, 0, 0, last].into()),
    }
}

#[test]
fn a_cause_from_an_address_is_a_line_once_and_a_sum_afterwards() {
    let mut reports = Reports::default();
    let news = |reports: &mut Reports, key| (0..4).filter(|_| reports.note(key, 2)).count();
    for key in [closed(CURVE, 1), closed(CURVE, 2), closed(LATE, 1)] {
        assert_eq!(news(&mut reports, key), 1, "{key:?}");
    }
    assert!(!reports.note(closed(LATE, 1), 2));
    let sums = reports.sum_up();
    let expected = Sum {
        causes: vec![(CURVE, 6), (LATE, 4)],
        has_unlisted: false,
        main: Some(closed(LATE, 1).source),
        messages: 20,
        others: 1,
        side: SocketName::Frontend,
        subject: Subject::Closed,
        total: 10,
    };
    assert_eq!(sums, [expected]);
    assert!(!reports.note(closed(LATE, 1), 2), "it is not forgotten yet");
    assert_eq!(reports.sum_up()[0].total, 1);
    assert_eq!(reports.sum_up(), [], "no case for a minute");
    assert_eq!((reports.len(), reports.kept), (0, [0; Subject::COUNT]));
    assert!(reports.note(closed(LATE, 1), 2), "it is a line again");
}

#[test]
fn reports_beyond_the_limit_are_summed_by_cause() {
    let mut reports = Reports::default();
    let last = u8::try_from(REPORTS_KEPT_MAX - 1).expect("few");
    let lines = (0..=last).filter(|last| reports.note(closed(CURVE, *last), 2));
    assert_eq!(lines.count(), REPORTS_KEPT_MAX);
    for address in 0..100 {
        assert!(!reports.note(closed(LATE, last.wrapping_add(1 + address)), 2));
    }
    let other = Key {
        subject: Subject::Undelivered,
        ..closed(LATE, 0)
    };
    assert!(reports.note(other, 2), "each subject has room of its own");
    assert_eq!(reports.len(), REPORTS_KEPT_MAX + 2);
    let sums = reports.sum_up();
    assert_eq!(sums.len(), 1);
    assert_eq!(sums[0].causes, [(LATE, 100)]);
    assert!(sums[0].has_unlisted && sums[0].main.is_none());
}

/// In any order, every report is a line or part of a sum.
#[test]
fn no_report_is_lost() {
    let (mut reports, mut state) = (Reports::default(), 7_u32);
    let (mut noted, mut lines, mut summed) = (0_u64, 0_u64, 0_u64);
    for _ in 0..20_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [kind, address, ..] = state.to_be_bytes();
        match kind {
            0 => summed += reports.sum_up().iter().map(|sum| sum.total).sum::<u64>(),
            1 => reports.renew(link(address)),
            _ => {
                let label = [CURVE, LATE][usize::from(kind % 2)];
                let mut key = closed(label, address);
                if kind % 8 == 2 {
                    key.source = Source::Link(link(address));
                }
                noted += 1;
                lines += u64::from(reports.note(key, 2));
            }
        }
    }
    summed += reports.sum_up().iter().map(|sum| sum.total).sum::<u64>();
    assert_eq!(lines + summed, noted);
    assert!(
        lines > 100 && summed > 100,
        "{lines} lines, {summed} in sums"
    );
}

#[test]
fn a_flapping_link_has_few_lines_a_minute() {
    let mut reports = Reports::default();
    let key = Key {
        source: Source::Link(link(3)),
        ..closed(LATE, 1)
    };
    let lines = (0..50).filter(|_| {
        reports.renew(link(3));
        reports.note(key, 2)
    });
    assert_eq!(lines.count(), LINK_LINES_MAX as usize);
    assert_eq!(reports.sum_up()[0].total, 50 - u64::from(LINK_LINES_MAX));
    reports.renew(link(4));
    assert!(!reports.note(key, 2), "another link is up");
    reports.renew(link(3));
    assert!(reports.note(key, 2));
}
