//! Where a window lies along an axis: the geometry that convolution and pooling share.

use crate::params::Axis;
use crate::{Error, Result};

/// The largest window and stride; more is a mistake, or a malicious file.
const MAX_WINDOW: usize = 1 << 10;

/// A window that moves along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub size: usize,
    /// How far it moves from one position to the next.
    pub stride: usize,
    /// Zeros before the first value.
    pub before: usize,
    /// Zeros after the last one.
    pub after: usize,
}

impl Window {
    /// A window without padding.
    pub fn new(size: usize, stride: usize) -> Self {
        Self { size, stride, before: 0, after: 0 }
    }

    /// With all padding before the first value, as much as leaves as many positions as there are values.
    pub fn causal(self) -> Self {
        Self { before: self.size.saturating_sub(1), after: 0, ..self }
    }

    /// How many positions it has along `n` values: ⌊(n + before + after − size) / stride⌋ + 1.
    pub fn positions(self, n: usize) -> usize {
        match (n + self.before + self.after).checked_sub(self.size) {
            Some(left) if n > 0 => left / self.stride + 1,
            _ => 0,
        }
    }

    /// The values along an axis of `n`, with the zeros.
    pub fn padded(self, n: usize) -> usize {
        self.before + n + self.after
    }

    /// Checks size, stride and padding.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting.
    pub fn check(self) -> Result<()> {
        for (name, value) in [("kernel_size", self.size), ("stride", self.stride)] {
            if !(1..=MAX_WINDOW).contains(&value) {
                return Err(Error::config(name, format!("found {value}, expected 1 to {MAX_WINDOW}")));
            }
        }
        if self.before.max(self.after) >= self.size {
            let fault = format!("found {}, expected less than the kernel's {}", self.before, self.size);
            return Err(Error::config("padding", fault));
        }
        Ok(())
    }
}

/// The columns of a step of `f` features that are `channels` for each column.
///
/// # Errors
/// [`Error::Config`] under the name of `field` if there is not a whole number of columns.
pub fn columns(f: usize, channels: usize, field: &str) -> Result<usize> {
    if channels == 0 || !f.is_multiple_of(channels) {
        let fault = format!("found {channels}, expected a divisor of the {f} features of a step");
        return Err(Error::config(field, fault));
    }
    Ok(f / channels)
}

/// The channels of an input with these units: units of a layer if that has one for each channel.
pub fn channels(units: &Axis, channels: usize) -> Axis {
    match units.runs() {
        [run] if run.units == channels => match &run.group {
            Some(group) => Axis::units(group.clone(), channels, 1),
            None => channels.into(),
        },
        _ => channels.into(),
    }
}

/// Checks that a window has a position along each axis of an input of `sizes` rows and columns.
///
/// # Errors
/// [`Error::Config`] if it is larger than the input.
pub fn check_fit(windows: [Window; 2], sizes: [usize; 2]) -> Result<()> {
    for (window, n) in windows.into_iter().zip(sizes) {
        window.check()?;
        if window.positions(n) == 0 {
            let fault =
                format!("found {}, expected at most {}, the padded input", window.size, window.padded(n));
            return Err(Error::config("kernel_size", fault));
        }
    }
    Ok(())
}
