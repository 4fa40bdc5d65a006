//! How many targets were predicted correctly.

use std::ops::AddAssign;

/// Targets that are classes, or values of a loss with a [threshold](crate::loss::Loss::threshold), and how many of them were
/// predicted correctly.
///
/// # Examples
/// ```
/// use bptt::train::Hits;
///
/// let mut hits = Hits { right: 3, all: 4 };
/// hits += Hits { right: 0, all: 2 };
/// assert_eq!(hits.accuracy(), Some(0.5));
/// assert_eq!(Hits::default().accuracy(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Those predicted correctly.
    pub right: u64,
    /// All that count.
    pub all: u64,
}

impl Hits {
    /// The share predicted correctly; `None` where nothing counts.
    pub fn accuracy(self) -> Option<f64> {
        (self.all > 0).then(|| self.right as f64 / self.all as f64)
    }
}

impl AddAssign for Hits {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.all += other.all;
    }
}
