//! A custom layer that holds another one.

use bptt::nn::{Backward, Build, Built, Description, Forward, Layer};
use bptt::{Error, Real, Result, SeqMut, Shape};

/// y = x + inner(x); dx = dy + the inner layer's dx
#[derive(Debug)]
pub struct Residual<L>(pub L);

impl<R: Real, L: Layer<R>> Layer<R> for Residual<L> {
    fn describe(&self) -> Description {
        Description::new("downstream.residual", self.0.describe())
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Built> {
        let input = build.input();
        let built = self.0.build(&mut build.child(input, "inner"))?;
        if built.output.shape != input.shape {
            let fault =
                format!("found an output {}, expected the input's, {}", built.output.shape, input.shape);
            return Err(Error::config("inner", fault));
        }
        Ok(built)
    }

    fn streams(&self) -> bool {
        self.0.streams()
    }

    fn takes_one_lane(&self) -> bool {
        self.0.takes_one_lane()
    }

    fn pack(&self, input: Shape, params: &[R], packed: &mut [R]) {
        self.0.pack(input, params, packed);
    }

    fn forward(&self, Forward { cx, x, y, state, cache, .. }: Forward<'_, R>) {
        let inner = SeqMut::new(&mut *y.data, y.shape, y.lanes);
        self.0.forward(Forward::new(cx, x, inner).state(state).cache(cache));
        y.data.iter_mut().zip(x.data).for_each(|(y, &x)| *y += x);
    }

    /// The inner layer sees its own output again: y − x.
    fn backward(&self, pass: Backward<'_, R>) {
        let Backward { cx, x, y, dy, dx, dstate, cache, grads, .. } = pass;
        let own: Vec<R> = y.data.iter().zip(x.data).map(|(&y, &x)| y - x).collect();
        let own = bptt::Seq::new(&own, y.shape, y.lanes);
        let inner = Backward::new(cx, x, own, dy).dstate(dstate).cache(cache).grads(grads);
        let Some(dx) = dx else { return self.0.backward(inner) };
        self.0.backward(inner.dx(SeqMut::new(&mut *dx.data, dx.shape, dx.lanes)));
        dx.data.iter_mut().zip(dy.data).for_each(|(dx, &dy)| *dx += dy);
    }
}
