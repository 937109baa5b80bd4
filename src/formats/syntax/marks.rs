//! Finds the bytes that separate values, many at a time.
//!
//! Must never look at more than a block, nor know what a mark means: that is `split`'s.

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 64;

/// What stands in a block, a bit for each byte; bit 0 is the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// Separators, CR and LF.
    pub(super) stops: u64,
    pub(super) quotes: u64,
}

impl Marks {
    /// Of at most a block of bytes.
    #[inline]
    pub(super) fn of(bytes: &[u8], separator: u8, quote: u8) -> Self {
        if let Some(block) = bytes.first_chunk() {
            return find(block, separator, quote);
        }
        let mut padded = [0; BLOCK];
        padded[..bytes.len()].copy_from_slice(bytes);
        let (all, there) = (find(&padded, separator, quote), (1 << bytes.len()) - 1);
        Self { stops: all.stops & there, quotes: all.quotes & there }
    }

    /// Bytes with an odd number of quotes up to themselves; `open` has all bits set where a quote is open before the block.
    #[inline]
    pub(super) fn inside(self, open: u64) -> u64 {
        [1, 2, 4, 8, 16, 32].into_iter().fold(self.quotes, |odd, shift| odd ^ (odd << shift)) ^ open
    }
}

const STOP: u8 = 1;
const QUOTE: u8 = 2;

fn find(block: &[u8; BLOCK], separator: u8, quote: u8) -> Marks {
    // Written so that the compiler compares sixteen or more bytes by one instruction.
    let mut kinds = [0; BLOCK];
    for (kind, byte) in kinds.iter_mut().zip(block) {
        let is = |mark, kind| if *byte == mark { kind } else { 0 };
        *kind = is(separator, STOP) | is(b'\r', STOP) | is(b'\n', STOP) | is(quote, QUOTE);
    }
    let mut found = Marks::default();
    for eight in kinds.as_chunks().0.iter().rev() {
        let eight = u64::from_le_bytes(*eight);
        found.stops = found.stops << 8 | gather(eight);
        found.quotes = found.quotes << 8 | gather(eight >> 1);
    }
    found
}

/// The lowest bits of eight bytes.
const fn gather(eight: u64) -> u64 {
    const LOWEST: u64 = u64::MAX / 255;
    // Multiplied with bytes that are 0 or 1, it gathers them in the highest byte, the first as its lowest bit.
    (eight & LOWEST).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![any::<u8>(), Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r')];
        proptest::collection::vec(byte, 0..=BLOCK)
    }

    proptest! {
        #[test]
        fn each_mark_has_its_bit(bytes in bytes(), open in any::<bool>()) {
            let found = Marks::of(&bytes, b',', b'"');
            let inside = found.inside(if open { u64::MAX } else { 0 });
            let mut odd = open;
            for (place, byte) in bytes.iter().enumerate() {
                odd ^= *byte == b'"';
                prop_assert_eq!(found.stops >> place & 1 == 1, matches!(byte, b',' | b'\r' | b'\n'));
                prop_assert_eq!(found.quotes >> place & 1 == 1, *byte == b'"');
                prop_assert_eq!(inside >> place & 1 == 1, odd);
            }
        }
    }
}
