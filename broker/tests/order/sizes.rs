//! Sizes beyond any memory.

use crate::play::Play;
use broker::Action;
use broker::config::{SocketName, SocketOptions};

/// "hello" follows each size, which would be a message if only the low 32 bits of the size counted.
#[test]
fn a_size_beyond_any_memory_is_refused_or_waited_for_and_takes_none() {
    const SIZES: [u64; 7] = [
        (1 << 32) - 10,
        (1 << 32) - 1,
        1 << 32,
        (1 << 32) + 5,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    let largest = i64::MAX as u64;
    for (maxmsgsize, size) in [SocketOptions::default().maxmsgsize, largest]
        .into_iter()
        .flat_map(|maxmsgsize| SIZES.map(|size| (maxmsgsize, size)))
    {
        let mut play = Play::new(SocketOptions {
            maxmsgsize,
            ..SocketOptions::default()
        });
        let (sink, source) = (
            play.join(SocketName::Backend),
            play.join(SocketName::Frontend),
        );
        play.feed(source, &[&[2], &size.to_be_bytes()[..], b"hello"].concat());
        play.core.run_deferred(play.now);
        assert_eq!(play.write(sink), [""; 0], "no part of it is a message");
        let is_legal = usize::try_from(size).is_ok_and(|size| size.checked_add(9).is_some())
            && size.saturating_add(9) <= maxmsgsize;
        let closed = std::iter::from_fn(|| play.core.poll_action())
            .any(|action| matches!(action, Action::Close { id, .. } if id == source));
        assert_eq!(
            closed, !is_legal,
            "{size} bytes where {maxmsgsize} are allowed"
        );
        if is_legal {
            assert_eq!(
                play.core.memory().inputs,
                14,
                "the received bytes of {size}"
            );
            let room = play
                .core
                .begin_input(source, &mut play.scratch)
                .spare()
                .len();
            assert!(
                room <= 1 << 20,
                "{room} bytes for an announcement of {size}"
            );
        }
    }
}
