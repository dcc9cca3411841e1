//! Each issuer's command numbers: every number is used once. Remembers the newest `WINDOW` numbers exactly and takes
//! everything older for used, so it costs the same for ever.

use borsh::{BorshDeserialize, BorshSerialize};

/// Numbers that may still be used out of order.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;
/// Numbers stay below this.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// The numbers that one issuer has used.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Numbers {
    highest: u64,
    /// Bit `number % WINDOW` for the newest `WINDOW` numbers.
    used: [u64; WORDS],
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            highest: 0,
            used: [0; WORDS],
        }
    }
}

impl Numbers {
    /// The number after the highest used one; the first is 1.
    pub(crate) fn next(&self) -> u64 {
        self.highest + 1
    }

    /// Uses a number; false if it was used, is zero, or is too old to tell.
    pub(crate) fn take(&mut self, number: u64) -> bool {
        if number == 0 || number.saturating_add(WINDOW) <= self.highest {
            return false;
        }
        if number > self.highest {
            let fresh = (number - self.highest).min(WINDOW);
            for cleared in (number - fresh + 1)..=number {
                self.set(cleared, false);
            }
            self.highest = number;
        } else if self.is_set(number) {
            return false;
        }
        self.set(number, true);
        true
    }

    /// Whether a number was used, or is too old to be used.
    pub(crate) fn is_used(&self, number: u64) -> bool {
        number.saturating_add(WINDOW) <= self.highest
            || (number <= self.highest && self.is_set(number))
    }

    fn is_set(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.used.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, number: u64, used: bool) {
        let (word, bit) = Self::place(number);
        if let Some(word) = self.used.get_mut(word) {
            match used {
                true => *word |= bit,
                false => *word &= !bit,
            }
        }
    }

    fn place(number: u64) -> (usize, u64) {
        let place = number % WINDOW;
        let word = usize::try_from(place / 64).unwrap_or(0);
        (word, 1 << (place % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_used_once_in_any_order() {
        let mut numbers = Numbers::default();
        assert!(!numbers.take(0));
        for number in [1, 3, 2, 1000, 500, 1500] {
            assert!(numbers.take(number), "{number}");
            assert!(!numbers.take(number), "{number} again");
        }
        assert_eq!(numbers.next(), 1501);
        assert!(!numbers.take(476), "too old to tell");
        assert!(numbers.take(477));
        assert!(!numbers.take(500));
        assert!(numbers.take(1_000_000));
        assert!(!numbers.take(1500));
        assert!(numbers.take(999_999));
    }
}
