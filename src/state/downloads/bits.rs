//! A set of chunk numbers, as bits.

/// Which of a file's chunks are in a set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    count: u32,
}

impl Bits {
    /// The empty set of numbers below `len`.
    pub fn empty(len: u32) -> Bits {
        Bits { bytes: vec![0; len.div_ceil(8) as usize], count: 0 }
    }

    /// Makes room for numbers below `len`.
    pub fn widen(&mut self, len: u32) {
        let bytes = len.div_ceil(8) as usize;
        self.bytes.resize(bytes.max(self.bytes.len()), 0);
    }

    /// A set that was persisted, for numbers below `len`. Bits that can't be are dropped.
    pub fn restore(len: u32, bytes: &[u8]) -> Bits {
        let mut bits = Bits::empty(len);
        let stored = |number: u32| bytes.get(number as usize / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1);
        (0..len).filter(|number| stored(*number)).for_each(|number| {
            bits.insert(number);
        });
        bits
    }

    /// The form to persist.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether a number is in the set.
    pub fn contains(&self, number: u32) -> bool {
        self.bytes.get(number as usize / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
    }

    /// Puts a number in. Says whether it was not there before.
    pub fn insert(&mut self, number: u32) -> bool {
        let new = !self.contains(number);
        if let (true, Some(byte)) = (new, self.bytes.get_mut(number as usize / 8)) {
            *byte |= 1 << (number % 8);
            self.count += 1;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_comes_back_and_forgets_what_cannot_be() {
        let mut bits = Bits::empty(10);
        assert!(bits.insert(3) && bits.insert(9) && !bits.insert(3));
        assert_eq!(Bits::restore(10, bits.as_bytes()), bits);
        assert_eq!(Bits::restore(4, &[0xff, 0xff]).count(), 4);
        assert_eq!(Bits::restore(10, &[]), Bits::empty(10));
    }

    #[test]
    fn a_set_can_be_made_wider() {
        let mut bits = Bits::default();
        bits.widen(10);
        assert!(bits.insert(9));
        bits.widen(3);
        assert!(bits.contains(9));
        bits.widen(100);
        assert!(bits.contains(9) && bits.insert(99));
    }
}
