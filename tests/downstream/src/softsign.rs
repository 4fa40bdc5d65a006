//! A layer of one's own.

use bptt::nn::{Context, Declare, Description, Layer, Sizes};
use bptt::{Real, Result, Seq, SeqMut, Shape};

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

    fn build(&self, input: Shape, _: &mut Declare<'_>) -> Result<(Shape, Sizes)> {
        Ok((input, Sizes::default()))
    }

    fn forward(&self, _: &Context<R>, x: Seq<R>, _: &mut [R], y: SeqMut<R>, _: &mut [R]) {
        y.data.iter_mut().zip(x.data).for_each(|(y, &x)| *y = x / (R::ONE + x.abs()));
    }

    fn backward(
        &self,
        _cx: &Context<R>,
        _x: Seq<R>,
        y: Seq<R>,
        dy: Seq<R>,
        _dstate: &mut [R],
        _cache: &mut [R],
        _grads: &mut [R],
        dx: Option<SeqMut<R>>,
    ) {
        let Some(dx) = dx else { return };
        for ((dx, &y), &dy) in dx.data.iter_mut().zip(y.data).zip(dy.data) {
            let slope = R::ONE - y.abs();
            *dx = dy * slope * slope;
        }
    }
}
