//! Finds the bytes that separate values, many at a time.
//!
//! Must never look at more than a block, nor know what a mark means: that is `split`'s.

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// Multiplied with eight bytes that are 0 or 1, it gathers them in the highest byte, the first as its lowest bit.
const GATHER: u64 = 0x0102_0408_1020_4080;

/// The places of all separators, quotes and line ends.
pub(super) struct Marks<'b> {
    bytes: &'b [u8],
    separator: u8,
    quote: u8,
    /// Where the block begins that is looked at.
    base: usize,
    /// Its marks that were not given yet.
    bits: u64,
}

impl<'b> Marks<'b> {
    pub(super) fn new(bytes: &'b [u8], separator: u8, quote: u8) -> Self {
        let mut all = Self { bytes, separator, quote, base: 0, bits: 0 };
        all.bits = all.block();
        all
    }

    /// The bits of the block at `base`.
    fn block(&self) -> u64 {
        let rest = &self.bytes[self.base..];
        if let Some(whole) = rest.first_chunk() {
            return marks(whole, self.separator, self.quote);
        }
        let mut padded = [0; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        marks(&padded, self.separator, self.quote) & ((1 << rest.len()) - 1)
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            if self.bytes.len() - self.base <= BLOCK {
                return None;
            }
            self.base += BLOCK;
            self.bits = self.block();
        }
        let at = self.base + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(at)
    }
}

/// A bit for each byte that is a separator, a quote or a line end; bit 0 is the first byte.
fn marks(block: &[u8; BLOCK], separator: u8, quote: u8) -> u64 {
    // Written so that the compiler compares sixteen or more bytes by one instruction.
    let mut found = [0; BLOCK];
    for (found, byte) in found.iter_mut().zip(block) {
        let is = |mark| u8::from(*byte == mark);
        *found = is(separator) | is(quote) | is(b'\n') | is(b'\r');
    }
    let eights = found.as_chunks().0.iter().rev();
    eights.fold(0, |bits, eight| bits << 8 | u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_mark_has_its_bit(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r')], BLOCK)) {
            let block: &[u8; BLOCK] = bytes.as_slice().try_into().expect("it is one block");
            let found = marks(block, b',', b'"');
            for (place, byte) in bytes.iter().enumerate() {
                prop_assert_eq!(found >> place & 1 == 1, b",\"\r\n".contains(byte));
            }
        }
    }
}
