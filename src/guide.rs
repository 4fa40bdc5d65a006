//! Four tasks from beginning to end, each with the lines that PyTorch takes beside ours.
//!
//! | task | what it needs | lines here | in PyTorch |
//! |---|---|---|---|
//! | [`classify`] | sequences of different lengths, early stopping | 47 | 63 |
//! | [`forecast`] | windows over a series, columns of numbers and categories, units of the target | 56 | 82 |
//! | [`tag`] | a custom loss at each step | 64 | 46 |
//! | [`serve`] | streams, many and on threads, that can be stopped | 65 | 61 |
//!
//! Lines are those that are neither empty nor comments, of whole programs with their data, by
//! `grep -vcE '^\s*(//|#|$|""")' docs/guide/*.rs docs/guide/*.py`. A loss takes more here, since its gradient is written too. Each
//! program is a test, of this crate and of a crate that depends on it (`tests/downstream`).

/// A page: its text, then the whole program, then PyTorch's.
macro_rules! page {
    ($name:ident, $title:literal) => {
        #[doc = $title]
        ///
        #[doc = include_str!(concat!("../docs/guide/", stringify!($name), ".md"))]
        ///
        /// # The program
        /// ```
        #[doc = include_str!(concat!("../docs/guide/", stringify!($name), ".rs"))]
        /// ```
        /// # In PyTorch
        /// ```python
        #[doc = include_str!(concat!("../docs/guide/", stringify!($name), ".py"))]
        /// ```
        pub mod $name {}
    };
}

page!(classify, "Sequences of different lengths are classified.");
page!(forecast, "A series is forecast from itself and others.");
page!(tag, "Each step is tagged, by a custom loss.");
page!(serve, "Streams are served.");
