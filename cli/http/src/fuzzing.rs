//! The body of the fuzz target for heads; a test replays its seeds.

use crate::head;
use crate::limits::{HEAD_SIZE_MAX, PARAMETERS_MAX};
use crate::response::Response;
use crate::route;
use broker::config::HttpConfig;
use std::net::Ipv4Addr;

/// Parses a head whole and in all its beginnings: the result is the same, no beginning of a legal
/// head is refused, and nothing is larger than the head.
///
/// # Panics
/// If one of these properties does not hold.
pub fn fuzz_head(data: &[u8]) {
    let whole = head::parse(data);
    let sum = |head: &head::Head| {
        let path: usize = head.path.iter().map(String::len).sum();
        let parameters = head.parameters.iter();
        let parameters: usize = parameters.map(|(key, value)| key.len() + value.len()).sum();
        path + parameters + head.host.as_ref().map_or(0, String::len)
    };
    match whole {
        Ok(None) => assert!(data.len() < HEAD_SIZE_MAX, "a head without an end"),
        Err(Response { closes, status, .. }) => {
            assert!(closes && (400..600).contains(&status), "status {status}");
        }
        Ok(Some(head)) => {
            assert!(head.size <= data.len().min(HEAD_SIZE_MAX));
            assert!(sum(&head) <= head.size, "decoded is larger than encoded");
            assert!(head.parameters.len() <= PARAMETERS_MAX);
            for end in 0..head.size {
                assert!(matches!(head::parse(&data[..end]), Ok(None)), "{end}");
            }
            let again = head::parse(&data[..head.size]).ok().flatten();
            assert_eq!(again.as_ref(), Some(&head));
            // No head makes the router panic.
            let _ = route::route(&head, Ipv4Addr::LOCALHOST.into(), &HttpConfig::default());
        }
    }
}
