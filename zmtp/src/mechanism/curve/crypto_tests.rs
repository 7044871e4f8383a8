//! Published vectors, and the two ways to a box against each other.

use super::*;

/// "Cryptography in NaCl" (Bernstein 2009) and the tests of NaCl and libsodium: `alicesk`.
const ALICE_SECRET: &str = "\
    77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
/// `bobpk`.
const BOB_PUBLIC: &str = "\
    de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
/// `firstkey`: HSalsa20 of what Alice and Bob agree on.
const FIRST_KEY: &str = "\
    1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
/// `secondkey`: HSalsa20 of the first key and the beginning of the nonce.
const SECOND_KEY: &str = "\
    dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4";
/// `nonce`.
const NONCE: &str = "\
    69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37";
/// `m`, without the zeros in front.
const MESSAGE: &str = "\
    be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac7\
    28d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556a\
    d6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f9377638\
    48645e0705";
/// `c`, without the zeros in front.
const BOXED: &str = "\
    f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476f\
    b8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee3\
    14a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5\
    f9b37973f622a43d14a6599b1f654cb45a74e355a5";

fn bytes<const SIZE: usize>(hex: &str) -> [u8; SIZE] {
    decode(hex).try_into().unwrap()
}

fn decode(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex
        .chars()
        .map(|digit| digit.to_digit(16).unwrap())
        .collect();
    let pairs = digits.as_chunks::<2>().0;
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(high << 4 | low).unwrap())
        .collect()
}

fn sealed(key: &BoxKey, nonce: &[u8; NONCE_SIZE], text: &[u8]) -> Vec<u8> {
    let mut sealed = [&[0; TAG_SIZE], text].concat();
    key.seal(nonce, &mut sealed);
    sealed
}

/// RFC 7748, 5.2 and 6.1.
#[test]
fn x25519_vectors() {
    let table = [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
        (
            ALICE_SECRET,
            BOB_PUBLIC,
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
    ];
    for (secret, public, expected) in table {
        let mut shared = [0; KEY_SIZE];
        crypto_scalarmult(&mut shared, &bytes(secret), &bytes(public)).unwrap();
        assert_eq!(shared, bytes(expected));
    }
    let alice = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    assert_eq!(derive_public_key(&bytes(ALICE_SECRET)), bytes(alice));
}

/// RFC 7748, 5.2: the function applied to its own results.
#[test]
fn x25519_a_thousand_times() {
    let mut k = [0; KEY_SIZE];
    k[0] = 9;
    let mut u = k;
    for round in 1..=1000 {
        let mut next = [0; KEY_SIZE];
        crypto_scalarmult(&mut next, &k, &u).unwrap();
        (u, k) = (k, next);
        let expected = match round {
            1 => "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
            1000 => "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
            _ => continue,
        };
        assert_eq!(k, bytes(expected), "round {round}");
    }
}

#[test]
fn the_box_of_nacl() {
    let key = BoxKey::agree(&bytes(BOB_PUBLIC), &bytes(ALICE_SECRET)).unwrap();
    assert_eq!(*key.0, bytes(FIRST_KEY));
    let mut boxed = sealed(&key, &bytes(NONCE), &decode(MESSAGE));
    assert_eq!(boxed, decode(BOXED));
    assert_eq!(
        key.open(&bytes(NONCE), &mut boxed).unwrap(),
        decode(MESSAGE)
    );
}

#[test]
fn the_box_of_nacl_with_the_subkey_kept() {
    let nonce = bytes::<NONCE_SIZE>(NONCE);
    let (prefix, counter) = nonce.split_at(16);
    let counter = u64::from_be_bytes(counter.try_into().unwrap());
    let key = BoxKey::from_bytes(&bytes(FIRST_KEY));
    let key = MessageKey::new(&key, prefix.try_into().unwrap());
    assert_eq!(*key.subkey, bytes(SECOND_KEY));
    let mut boxed = [&[0; TAG_SIZE][..], &decode(MESSAGE)].concat();
    key.seal(counter, &mut boxed);
    assert_eq!(boxed, decode(BOXED));
    assert_eq!(key.open(counter, &mut boxed).unwrap(), decode(MESSAGE));
}

/// What a short message gets from one crate must be what a box gets from the other.
#[test]
fn both_ways_seal_and_open_alike_at_every_size() {
    let prefix = b"CurveZMQMESSAGEC";
    let plain = BoxKey::from_bytes(&bytes(FIRST_KEY));
    let kept = MessageKey::new(&plain, prefix);
    for size in 0..=200_u8 {
        let text: Vec<u8> = (0..size).map(|byte| byte.wrapping_mul(31)).collect();
        let counter = 0x0102_0304_0506_0700 + u64::from(size);
        let nonce = kept.nonce(counter);
        assert_eq!(nonce[..16], *prefix);
        let expected = sealed(&plain, &nonce, &text);
        let mut boxed = [&[0; TAG_SIZE], &text[..]].concat();
        kept.seal(counter, &mut boxed);
        assert_eq!(boxed, expected, "{size} bytes");
        assert_eq!(plain.open(&nonce, &mut boxed.clone()).unwrap(), text);
        assert_eq!(kept.open(counter, &mut boxed).unwrap(), text);
    }
}

#[test]
fn a_box_with_any_bit_flipped_stays_shut_and_as_it_was() {
    let plain = BoxKey::from_bytes(&bytes(FIRST_KEY));
    let kept = MessageKey::new(&plain, b"CurveZMQMESSAGES");
    for size in [0, 1, 32, 96, 97, 131] {
        let mut boxed = vec![7; TAG_SIZE + size];
        kept.seal(3, &mut boxed);
        for bit in 0..8 * boxed.len() {
            let mut flipped = boxed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let before = flipped.clone();
            assert!(kept.open(3, &mut flipped).is_none(), "bit {bit} of {size}");
            assert!(plain.open(&kept.nonce(3), &mut flipped).is_none());
            assert_eq!(flipped, before);
        }
        assert!(kept.open(4, &mut boxed.clone()).is_none());
        assert!(kept.open(3, &mut boxed).is_some());
    }
    for size in 0..TAG_SIZE {
        assert!(kept.open(3, &mut vec![0; size]).is_none());
        assert!(plain.open(&[0; NONCE_SIZE], &mut vec![0; size]).is_none());
    }
}

#[test]
fn points_of_low_order_agree_with_no_key() {
    for point in crate::mechanism::curve::low_order_points() {
        assert!(is_low_order(&point));
        assert!(BoxKey::agree(&point, &bytes(ALICE_SECRET)).is_none());
    }
    assert!(!is_low_order(&bytes(BOB_PUBLIC)));
}
