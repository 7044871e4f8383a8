//! Things that wait for work, by proxy: proxies take turns, so that one with much to do leaves the
//! others their share.

use std::collections::VecDeque;

/// Units of work that a proxy may do before it is the turn of the next: a system call or two.
const QUANTUM: i64 = 10_000;

/// First in, first out within a proxy; equal shares of work among proxies that have something
/// waiting. Those that do not cost nothing.
#[derive(Debug)]
pub(crate) struct Rota<T> {
    /// Proxies with something waiting, the one whose turn it is in front.
    active: VecDeque<u32>,
    lanes: Vec<Lane<T>>,
    /// How many things wait.
    len: usize,
    /// The proxy served last, and how much work had been done by then.
    served: Option<(u32, u64)>,
}

#[derive(Debug)]
struct Lane<T> {
    /// Work that it may still do in its turn; less than nothing if it did too much.
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
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a thing behind the others of this proxy.
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

    /// The next thing to work on. `done` is how much work of this kind has been done so far: what
    /// was added since the last call is charged to the proxy that was served then.
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

    /// The proxy whose turn it is.
    fn turn(&mut self) -> Option<u32> {
        if self.active.len() == 1 {
            // With nothing else to do there is nothing to share.
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

    /// Serves so many things, each of which costs as much as it says; answers with how much work
    /// was done for each proxy.
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
        // One thing of another waits for a turn of each at most.
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
    fn what_one_piece_of_work_cost_too_much_is_made_up_for() {
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
    fn things_of_a_proxy_stay_in_order_and_none_is_lost() {
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
