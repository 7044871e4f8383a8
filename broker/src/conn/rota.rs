//! Pending items of work, by proxy. Proxies take turns, so that a busy one leaves the others their
//! share.

use std::collections::VecDeque;

/// Units of work that a proxy may do before the next one has its turn: one or two system calls.
const QUANTUM: i64 = 10_000;

/// First in, first out within a proxy; equal shares of work among proxies with pending items. Idle
/// proxies cost nothing.
#[derive(Debug)]
pub(crate) struct Rota<T> {
    /// Proxies with pending items; the first has the turn.
    active: VecDeque<u32>,
    lanes: Vec<Lane<T>>,
    /// The number of pending items.
    len: usize,
    /// The proxy served last, and the work done by then.
    served: Option<(u32, u64)>,
}

#[derive(Debug)]
struct Lane<T> {
    /// Work that it may still do in its turn; negative if it did too much.
    credit: i64,
    items: VecDeque<T>,
}

impl<T> Default for Rota<T> {
    fn default() -> Self {
        Self {
            active: VecDeque::new(),
            lanes: Vec::new(),
            len: 0,
            served: None,
        }
    }
}

impl<T> Rota<T> {
    /// Whether no item is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item after the others of this proxy.
    #[inline]
    pub(crate) fn push(&mut self, proxy: u32, item: T) {
        let index = proxy as usize;
        if index >= self.lanes.len() {
            self.lanes.resize_with(index + 1, || Lane {
                credit: 0,
                items: VecDeque::new(),
            });
        }
        let lane = &mut self.lanes[index];
        if lane.items.is_empty() {
            self.active.push_back(proxy);
        }
        lane.items.push_back(item);
        self.len += 1;
    }

    /// The next item. `done` is the work of this kind so far: the difference since the last call is
    /// charged to the proxy served then.
    #[inline]
    pub(crate) fn pop(&mut self, done: u64) -> Option<T> {
        if let Some((proxy, before)) = self.served.take() {
            let work = i64::try_from(done - before).unwrap_or(i64::MAX);
            let lane = &mut self.lanes[proxy as usize];
            lane.credit = lane.credit.saturating_sub(work);
        }
        let proxy = self.turn()?;
        let lane = &mut self.lanes[proxy as usize];
        let item = lane.items.pop_front()?;
        if lane.items.is_empty() {
            self.active.pop_front();
            lane.credit = lane.credit.min(0);
        }
        self.len -= 1;
        self.served = Some((proxy, done));
        Some(item)
    }

    /// The proxy with the turn.
    fn turn(&mut self) -> Option<u32> {
        if self.active.len() == 1 {
            // A proxy alone needs no shares.
            let only = *self.active.front()?;
            self.lanes[only as usize].credit = QUANTUM;
            return Some(only);
        }
        loop {
            let proxy = *self.active.front()?;
            let lane = &mut self.lanes[proxy as usize];
            if lane.credit > 0 {
                return Some(proxy);
            }
            lane.credit += QUANTUM;
            self.active.rotate_left(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves this number of items, each of which costs what it says; returns the work done for
    /// each proxy.
    fn serve(rota: &mut Rota<(u32, u64)>, count: usize) -> [u64; 3] {
        let (mut work, mut done) = ([0; 3], 0);
        for _ in 0..count {
            let Some((proxy, cost)) = rota.pop(done) else {
                break;
            };
            work[proxy as usize] += cost;
            done += cost;
        }
        work
    }

    #[test]
    fn a_proxy_with_much_to_do_leaves_the_others_their_share() {
        let mut rota = Rota::default();
        for _ in 0..100_000 {
            rota.push(0, (0, 4_000));
        }
        for _ in 0..10_000 {
            rota.push(1, (1, 40_000));
        }
        let work = serve(&mut rota, 5_000);
        assert!(work[0].abs_diff(work[1]) < 200_000, "{work:?}");
        // An item of another proxy waits for at most one turn of each.
        rota.push(2, (2, 1));
        let (mut before, mut done) = (0, work.iter().sum());
        while let Some((proxy, cost)) = rota.pop(done)
            && proxy != 2
        {
            before += 1;
            done += cost;
        }
        assert!(before < 50, "{before} things were before it");
    }

    #[test]
    fn an_expensive_item_is_paid_back_in_later_turns() {
        let mut rota = Rota::default();
        for _ in 0..100 {
            rota.push(0, (0, 1_000_000));
            for _ in 0..1000 {
                rota.push(1, (1, 1_000));
            }
        }
        let work = serve(&mut rota, 20_000);
        assert!(work[0].abs_diff(work[1]) < 2_000_000, "{work:?}");
    }

    #[test]
    fn items_of_a_proxy_stay_in_order_and_none_is_lost() {
        let mut rota = Rota::default();
        for number in 0..10 {
            rota.push(number % 2, (number % 2, u64::from(number)));
        }
        let mut served: Vec<_> = std::iter::from_fn(|| rota.pop(0)).collect();
        assert!(rota.is_empty());
        served.sort_by_key(|(proxy, _)| *proxy);
        let numbers: Vec<u64> = served.into_iter().map(|(_, number)| number).collect();
        assert_eq!(numbers, [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]);
    }
}
