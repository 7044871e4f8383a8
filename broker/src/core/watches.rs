//! The states of services, as `zmqd watch` reports them to the control: kept for metrics and the
//! dashboard, and forgotten when the connection of the report ends.

use crate::core::events::{Facts, Place};
use crate::core::turn::cost;
use crate::core::{Admin, Core};
use crate::ids::ConnId;
use crate::view::WatchView;
use log::Level;
use std::collections::BTreeMap;
use zmtp::show;

/// The last report of each reporter.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// Bytes of all reports.
    memory: u64,
    /// Reports by their connections; `None`: of the program.
    reports: BTreeMap<Option<ConnId>, Vec<WatchView>>,
}

/// Most watches of all reports: they are labels of metrics.
const WATCHES_MAX: usize = 256;

/// Most characters of a reason, and of every other text of a watch.
const REASON_LEN_MAX: usize = 200;
const TEXT_LEN_MAX: usize = 64;

/// All reports may take this share of the memory limit.
const MEMORY_SHARE: u64 = 64;

impl Watches {
    /// A peer has left.
    pub(super) fn forget(&mut self, id: ConnId) {
        if self.reports.remove(&Some(id)).is_some() {
            self.memory = self.walk();
        }
    }

    /// Bytes of all reports.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// The same, from all that is kept.
    pub(super) fn walk(&self) -> u64 {
        self.reports.values().flatten().map(size).sum()
    }

    /// Keeps as much of a report as there is room for, instead of the last one of this reporter.
    fn keep(&mut self, by: Option<ConnId>, list: Vec<WatchView>, memory_max: u64) -> usize {
        self.reports.remove(&by);
        let mut memory = self.walk();
        let len_max = WATCHES_MAX - self.reports.values().map(Vec::len).sum::<usize>();
        let mut kept = Vec::new();
        for mut watch in list.into_iter().take(len_max) {
            watch.cut();
            memory += size(&watch);
            if memory > memory_max {
                break;
            }
            kept.push(watch);
        }
        let count = kept.len();
        if count > 0 {
            self.reports.insert(by, kept);
        }
        self.memory = self.walk();
        count
    }
}

impl WatchView {
    /// Cuts the texts to their limits.
    fn cut(&mut self) {
        for (text, len_max) in [
            (&mut self.name, TEXT_LEN_MAX),
            (&mut self.reason, REASON_LEN_MAX),
            (&mut self.sign, TEXT_LEN_MAX),
            (&mut self.state, TEXT_LEN_MAX),
        ] {
            if let Some((end, _)) = text.char_indices().nth(len_max) {
                text.truncate(end);
            }
            text.shrink_to_fit();
        }
    }
}

/// Bytes that a watch takes.
fn size(watch: &WatchView) -> u64 {
    let texts = [&watch.name, &watch.reason, &watch.sign, &watch.state];
    let texts: usize = texts.into_iter().map(String::len).sum();
    (size_of::<WatchView>() + texts) as u64
}

impl Core {
    /// Bytes that all reports may take.
    fn watches_max(&self) -> u64 {
        match self.memory.limit() {
            0 => u64::MAX,
            limit => limit / MEMORY_SHARE,
        }
    }
}

impl Admin<'_> {
    /// The watches of the last reports.
    #[must_use]
    pub fn watches(&mut self) -> Vec<WatchView> {
        let reports = self.core.watches.reports.values();
        let watches: Vec<WatchView> = reports.flatten().cloned().collect();
        self.charge_views(watches.len());
        watches
    }

    /// Keeps a report of watches instead of the last one of this reporter; returns how many of them
    /// are kept: the reports of all reporters have room for 256, and for a 64th of the memory
    /// limit. Names, signs and states are cut to 64 characters, reasons to 200. The report of a
    /// peer is forgotten when the peer leaves.
    pub fn report_watches(&mut self, list: Vec<WatchView>) -> usize {
        self.charge_views(list.len());
        let memory_max = self.core.watches_max();
        let former = self.core.watches.reports.get(&self.asker).cloned();
        let kept = self.core.watches.keep(self.asker, list, memory_max);
        self.tell_actions(&former.unwrap_or_default());
        kept
    }

    /// Tells which watches have acted since the former report.
    fn tell_actions(&mut self, former: &[WatchView]) {
        let before: BTreeMap<&str, u64> = former.iter().map(|it| (&*it.name, it.actions)).collect();
        let list = self.core.watches.reports.get(&self.asker);
        let acted = list.into_iter().flatten().filter(|it| {
            before
                .get(&*it.name)
                .is_some_and(|actions| it.actions > *actions)
        });
        let lines: Vec<String> = acted
            .map(|it| {
                let texts = [&it.name, &it.reason, &it.state];
                let [name, reason, state] = texts.map(|text| show(text).whole());
                format!("the watch {name} has acted: {reason} ({state})")
            })
            .collect();
        for text in lines {
            self.core.turn.charge(cost::LINE);
            self.core
                .tell(Level::Warn, Place::Broker, Facts::default(), &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(name: &str) -> WatchView {
        WatchView {
            actions: 1,
            name: name.to_owned(),
            reason: "é".repeat(300),
            sign: "silent".to_owned(),
            state: "up".to_owned(),
        }
    }

    #[test]
    fn reports_have_room_for_so_many_watches_of_all_reporters() {
        let mut watches = Watches::default();
        let [one, other] = [1, 2].map(|slot| {
            Some(ConnId {
                generation: 1,
                slot,
            })
        });
        let list = |len: usize| vec![watch("a"); len];
        assert_eq!(watches.keep(one, list(200), u64::MAX), 200);
        assert_eq!(watches.keep(other, list(200), u64::MAX), 56);
        assert_eq!(watches.keep(one, list(1), u64::MAX), 1, "it replaces");
        assert_eq!(watches.memory(), 57 * size(&watches.reports[&one][0]));
        let reason = &watches.reports[&one][0].reason;
        assert_eq!(reason.chars().count(), REASON_LEN_MAX);
        watches.forget(ConnId {
            generation: 1,
            slot: 2,
        });
        assert_eq!(watches.memory(), watches.walk());
        assert_eq!(watches.reports.len(), 1);
    }

    #[test]
    fn reports_have_a_share_of_the_memory() {
        let mut watches = Watches::default();
        let mut cut = watch("a");
        cut.cut();
        let two = 2 * size(&cut);
        for (memory_max, expected) in [(two, 2), (two - 1, 1), (0, 0)] {
            assert_eq!(
                watches.keep(None, vec![watch("a"); 9], memory_max),
                expected
            );
            assert!(watches.memory() <= memory_max);
        }
    }
}
