//! A custom layer.

use bptt::nn::{Backward, Build, Built, Description, Forward, Layer};
use bptt::{Real, Result};

/// y = x / (1 + |x|); dx = dy (1 − |y|)²
#[derive(Clone, Copy, Debug)]
pub struct Softsign;

impl Softsign {
    pub const KIND: &str = "downstream.softsign";
}

impl<R: Real> Layer<R> for Softsign {
    fn describe(&self) -> Description {
        Description::new(Self::KIND, ())
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        Ok(Built::new(build.input().clone()))
    }

    fn forward(&self, Forward { x, y, .. }: Forward<'_, R>) {
        y.data.iter_mut().zip(x.data).for_each(|(y, &x)| *y = x / (R::ONE + x.abs()));
    }

    fn backward(&self, Backward { y, dy, dx, .. }: Backward<'_, R>) {
        let Some(dx) = dx else { return };
        for ((dx, &y), &dy) in dx.data.iter_mut().zip(y.data).zip(dy.data) {
            let slope = R::ONE - y.abs();
            *dx = dy * slope * slope;
        }
    }
}
