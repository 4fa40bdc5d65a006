//! What an optimizer must keep.

use std::ops::Range;

use super::{Conform, Conformance};
use crate::optim::{MAX_MOMENTS, Optimizer, Update};
use crate::{Result, rng};

/// The number of parameters, which is not a multiple of a vector's lanes.
const COUNT: usize = 37;

pub(super) fn check(conform: &Conform, optimizer: &dyn Optimizer<f64>, held: &mut Conformance) -> Result<()> {
    optimizer.check()?;
    if optimizer.moments() > MAX_MOMENTS {
        let expected = format!("at most {MAX_MOMENTS}");
        return Err(held.fault("settings", "moments", optimizer.moments(), expected));
    }
    held.count("settings", 1);
    let run = |lr: f64, scale: f64, pieces: &[Range<usize>]| steps(conform, optimizer, (lr, scale), pieces);
    let lr = optimizer.lr();
    let all = std::slice::from_ref(&(0..COUNT));
    let whole = run(lr, 1.0, all);
    held.same("pieces", "parameters and moments", (&run(lr, 1.0, &[0..13, 13..14, 14..COUNT]), &whole), 0.0)?;
    let still = run(0.0, 1.0, all);
    held.same("rate of 0", "parameters", (&still[..COUNT], &values(conform, 0)), 0.0)?;
    for scale in [0.0, 1e6] {
        let found = run(lr, scale, all);
        if let Some(bad) = found.iter().find(|value| !value.is_finite()) {
            let place = format!("gradients of up to {scale}");
            return Err(held.fault("finite", &place, bad, "finite parameters and moments"));
        }
        held.count("finite", found.len());
    }
    Ok(())
}

/// Values in (−1, 1).
fn values(conform: &Conform, salt: u64) -> Vec<f64> {
    let value = |i| (rng::key(&[conform.seed, salt, i]) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
    (0..COUNT as u64).map(value).collect()
}

/// Parameters and moments after three steps at a learning rate, with gradients of a scale, piece by piece.
fn steps(
    conform: &Conform,
    optimizer: &dyn Optimizer<f64>,
    (lr, scale): (f64, f64),
    pieces: &[Range<usize>],
) -> Vec<f64> {
    let kept = optimizer.moments();
    let mut params = values(conform, 0);
    let mut moments: [Vec<f64>; MAX_MOMENTS] = Default::default();
    moments[..kept].iter_mut().for_each(|moment| *moment = vec![0.0; COUNT]);
    for step in 1..=3 {
        let grads: Vec<f64> = values(conform, step).iter().map(|g| scale * g).collect();
        for piece in pieces {
            let moments = moments.each_mut().map(|moment| match moment.len() {
                0 => &mut [][..],
                _ => &mut moment[piece.clone()],
            });
            let update = Update::new(lr, &mut params[piece.clone()], &grads[piece.clone()]);
            optimizer.update(update.step(step).moments(moments));
        }
    }
    params.into_iter().chain(moments.concat()).collect()
}
