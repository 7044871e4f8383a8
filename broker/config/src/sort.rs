//! Sorting where size matters more than speed: everywhere but on the path of a message.
//!
//! Each use of a sort of the standard library compiles it anew for its type and order, to about
//! 5 KiB. Here the places in a list are sorted, so all uses share one copy.

use std::cmp::Ordering;

/// Sorts a list by a key; elements with equal keys keep their order. The key is computed for each
/// comparison.
pub fn by_key<T, K: Ord>(list: &mut [T], mut key: impl FnMut(&T) -> K) {
    by(list, &mut |one, other| key(one).cmp(&key(other)));
}

/// Sorts a list; elements that compare as equal keep their order.
pub fn by<T>(list: &mut [T], compare: &mut dyn FnMut(&T, &T) -> Ordering) {
    let mut places: Vec<usize> = (0..list.len()).collect();
    sort_places(&mut places, &mut |one, other| {
        compare(&list[one], &list[other])
    });
    // Each element moves once: the place in front of it in its cycle is free.
    for start in 0..list.len() {
        let mut place = start;
        loop {
            let next = std::mem::replace(&mut places[place], place);
            if next == start {
                break;
            }
            list.swap(place, next);
            place = next;
        }
    }
}

#[inline(never)]
fn sort_places(places: &mut [usize], compare: &mut dyn FnMut(usize, usize) -> Ordering) {
    places.sort_by(|one, other| compare(*one, *other));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random numbers below a limit, the same in each run.
    fn draw(seed: &mut u64, below: usize) -> usize {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(*seed >> 33).expect("31 bits") % below
    }

    #[test]
    fn lists_are_sorted_as_the_standard_library_sorts_them() {
        let mut seed = 1;
        for len in (0..40).chain([1000]) {
            for values in [2, 10, 1000] {
                let list: Vec<_> = (0..len).map(|at| (draw(&mut seed, values), at)).collect();
                let (mut sorted, mut expected) = (list.clone(), list);
                by_key(&mut sorted, |(value, _)| *value);
                expected.sort_by_key(|(value, _)| *value);
                assert_eq!(sorted, expected);
                by(&mut sorted, &mut |one, other| other.cmp(one));
                expected.sort_by(|one, other| other.cmp(one));
                assert_eq!(sorted, expected);
            }
        }
    }
}
