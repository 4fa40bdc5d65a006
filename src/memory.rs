//! Memory whose size comes from a file or from data: an error if there is not enough, rather than an abort.

use crate::{Error, Real, Result};

/// Checks that `bytes` bytes, `None` if a count overflowed, can be allocated at this moment.
///
/// The memory is reserved and released untouched: only this way does the standard library return an error rather than
/// abort, and the zeros allocated afterwards cost nothing until they are written to.
///
/// # Errors
/// [`Error::Config`] that names the size.
pub(crate) fn check(what: &str, bytes: Option<usize>) -> Result<()> {
    let Some(bytes) = bytes.filter(|&bytes| isize::try_from(bytes).is_ok()) else {
        return Err(Error::config("memory", format!("found {what} of more bytes than can be addressed")));
    };
    let refused = |_| {
        Error::config(
            "memory",
            format!("found {what} of {bytes} bytes, expected as many as there is memory for"),
        )
    };
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(refused)
}

/// The number of bytes of values of `R`, as many as the product of `factors`.
pub(crate) fn bytes<R>(factors: &[usize]) -> Option<usize> {
    factors.iter().try_fold(size_of::<R>(), |bytes, &factor| bytes.checked_mul(factor))
}

/// "one stream" or "5 streams".
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("one {what}") } else { format!("{n} {what}s") }
}

/// Zeros, as many as the product of `factors`.
///
/// # Errors
/// As for [`check`].
pub(crate) fn zeros<R: Real>(what: &str, factors: &[usize]) -> Result<Vec<R>> {
    check(what, bytes::<R>(factors))?;
    Ok(vec![R::ZERO; factors.iter().product()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error_that_names_the_size() {
        assert_eq!(zeros::<f32>("a test", &[2, 3]).unwrap(), [0.0; 6]);
        assert!(zeros::<f32>("a test", &[usize::MAX, 2, 0]).is_err());
        let message = zeros::<f64>("a test", &[1 << 30, 1 << 40]).unwrap_err().to_string();
        assert_eq!(message, "`memory`: found a test of more bytes than can be addressed");
        let message = zeros::<f64>("a test", &[1 << 58]).unwrap_err().to_string();
        let expected =
            "`memory`: found a test of 2305843009213693952 bytes, expected as many as there is memory for";
        assert_eq!(message, expected);
    }
}
