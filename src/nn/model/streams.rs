//! Many streams side by side: one time step of each at a time, in the lanes of tiles.

use std::mem::swap;
use std::ops::Deref;

use ndarray::ArrayView2;

use super::Model;
use super::steps::{Steps, put_step};
use super::tiles::FEW;
use crate::kernels::Aligned;
use crate::shape::MAX_LANES;
use crate::{Error, Real, Result, memory};

/// Any number of streams through one model, side by side: a push takes one step of each, or of some of them.
///
/// Streams lie in the lanes of tiles of at most 64, so that each weight that is read serves all of them. The outputs and
/// the state of a stream are, bit for bit, those of a [`Session`](super::Session) of its own, whichever streams are pushed
/// with it. A push allocates nothing, takes no lock and makes no system call, as that of a session.
///
/// Everything is done on the caller's thread. On several threads, each can have a share of the streams, of one model: `M`
/// is a `&Model` or an `Arc<Model>`.
///
/// # Examples
/// Three sensors, of which one has nothing to say in the second step:
/// ```
/// use bptt::{Model, Shape, nn::{Linear, Lstm}};
/// use ndarray::array;
/// # fn main() -> bptt::Result<()> {
/// let model: Model = Model::builder(Shape::new(100, 2))
///     .layer("lstm", Lstm::new(8))
///     .layer("linear", Linear::new(1))
///     .build(1)?;
/// let mut sensors = model.streams(3)?;
/// let y = sensors.push(&array![[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]);
/// assert_eq!(y.dim(), (3, 1));
/// let y = sensors.push_some(&[2, 0], &array![[0.7, 0.8], [0.9, 1.0]])[[0, 0]];
///
/// let mut alone = model.session()?;
/// alone.push(&[0.5, 0.6]);
/// assert_eq!(alone.push(&[0.7, 0.8]), [y]);
/// assert_eq!(alone.state(0), sensors.state(2, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Streams<M, R> {
    model: M,
    buffers: Buffers<R>,
    /// The states of all streams, tile by tile: `[state, lanes]` for each layer, with room for as many lanes as the buffers
    /// have.
    states: Vec<Vec<Aligned<R>>>,
    /// The steps that are pushed, tile by tile: `[F, lanes]`.
    steps: Aligned<R>,
    /// `[n, F']`: the outputs of the last push.
    output: Vec<R>,
    /// For each stream whether it is among those that are pushed; false between pushes.
    pushed: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Buffers<R> {
    /// For a stream alone.
    alone: Steps<R>,
    /// For as many as a tile can have.
    side_by_side: Steps<R>,
}

impl<R> Buffers<R> {
    fn of(&mut self, tile: Tile) -> &mut Steps<R> {
        if tile.lanes == 1 { &mut self.alone } else { &mut self.side_by_side }
    }
}

impl<R: Real> Model<R> {
    /// Opens `n` streams that borrow this model; see [`Streams`].
    ///
    /// # Errors
    /// [`Error::Config`] if `n` is 0, a layer needs the whole sequence at once, as a bidirectional layer does, or there
    /// is not enough memory.
    pub fn streams(&self, n: usize) -> Result<Streams<&Self, R>> {
        Streams::new(self, n)
    }
}

impl<R: Real, M: Deref<Target = Model<R>>> Streams<M, R> {
    /// Opens `n` streams through a model, each from a zero state.
    ///
    /// # Errors
    /// [`Error::Config`] if `n` is 0, a layer needs the whole sequence at once, as a bidirectional layer does, or there
    /// is not enough memory.
    pub fn new(model: M, n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::config("streams", "found 0, expected at least 1"));
        }
        let mut buffers =
            Buffers { alone: Steps::new(&model, 1)?, side_by_side: Steps::new(&model, n.min(MAX_LANES))? };
        let cut = Cut::new(n, &buffers.alone);
        let (f, outputs) = (model.input_shape().f, model.output_shape().f);
        let state: Option<usize> =
            model.slots().iter().try_fold(f + outputs, |sum, slot| sum.checked_add(slot.sizes.state));
        let bytes = state.and_then(|values| memory::bytes::<R>(&[values, cut.lanes()?]));
        memory::check(&memory::count(n, "stream"), bytes)?;
        let zeros = |tile| buffers.of(tile).states().map(|state| Aligned::zeros(state.len())).collect();
        Ok(Self {
            states: cut.tiles().map(zeros).collect(),
            steps: Aligned::zeros(f * cut.lanes().unwrap_or_default()),
            output: vec![R::ZERO; outputs * n],
            pushed: vec![false; n],
            model,
            buffers,
        })
    }

    /// How many streams there are: at least one.
    pub fn count(&self) -> usize {
        self.pushed.len()
    }

    /// Feeds one raw step of each stream, `[n, F]`, to the model and returns its outputs for them, `[n, F']`.
    ///
    /// # Panics
    /// If a step is invalid; see [`try_push`](Self::try_push).
    #[track_caller]
    pub fn push<'a>(&mut self, steps: impl Into<ArrayView2<'a, R>>) -> ArrayView2<'_, R> {
        self.try_push(steps).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Feeds one raw step of each stream, `[n, F]`, to the model and returns its outputs for them, `[n, F']`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if there is not one step of as many features as the model's input for each stream, or the
    /// first layer does not accept one, such as an index that an embedding does not have. All states are unchanged then.
    pub fn try_push<'a>(&mut self, steps: impl Into<ArrayView2<'a, R>>) -> Result<ArrayView2<'_, R>> {
        let n = self.count();
        self.gather(&steps.into(), n, |row| row)?;
        for (i, tile) in self.cut(n).tiles().enumerate() {
            self.swap_states(i, tile);
            self.pass(tile);
            self.swap_states(i, tile);
        }
        self.outputs(n)
    }

    /// Feeds one raw step of each of some streams, `[which.len(), F]`, to the model and returns its outputs for them,
    /// `[which.len(), F']`: row i is of stream `which[i]`. The states of all others stay as they are.
    ///
    /// The work grows with the number of streams that are pushed. To push all of them, [`push`](Self::push) is faster,
    /// since it does not move states.
    ///
    /// # Panics
    /// If a step is invalid; see [`try_push_some`](Self::try_push_some).
    #[track_caller]
    pub fn push_some<'a>(
        &mut self,
        which: &[usize],
        steps: impl Into<ArrayView2<'a, R>>,
    ) -> ArrayView2<'_, R> {
        self.try_push_some(which, steps).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Feeds one raw step of each of some streams, `[which.len(), F]`, to the model; see [`push_some`](Self::push_some).
    ///
    /// # Errors
    /// [`Error::Mismatch`] as [`try_push`](Self::try_push), or if there is no such stream, or it occurs twice. All states
    /// are unchanged then.
    pub fn try_push_some<'a>(
        &mut self,
        which: &[usize],
        steps: impl Into<ArrayView2<'a, R>>,
    ) -> Result<ArrayView2<'_, R>> {
        self.check_distinct(which)?;
        self.gather(&steps.into(), which.len(), |row| which[row])?;
        for tile in self.cut(which.len()).tiles() {
            let streams = &which[tile.first..][..tile.valid];
            self.move_states(tile, streams, |own, work| *work = *own);
            self.pass(tile);
            self.move_states(tile, streams, |own, work| *own = *work);
        }
        self.outputs(which.len())
    }

    /// Sets stream `stream` back to the zero state.
    ///
    /// # Panics
    /// If there is no such stream.
    #[track_caller]
    pub fn reset(&mut self, stream: usize) {
        let place = self.place(stream);
        for states in &mut self.states[place.tile] {
            states.iter_mut().skip(place.lane).step_by(place.lanes).for_each(|state| *state = R::ZERO);
        }
    }

    /// Sets all streams back to the zero state.
    pub fn reset_all(&mut self) {
        self.states.iter_mut().flatten().for_each(|states| states.fill(R::ZERO));
    }

    /// The state of stream `stream` in layer `layer`, in the order of the layer: h, then c, for an LSTM.
    ///
    /// # Panics
    /// If there is no such stream or layer.
    #[track_caller]
    pub fn state(&self, stream: usize, layer: usize) -> Vec<R> {
        let (place, size) = (self.place(stream), self.model.slots()[layer].sizes.state);
        let states = self.states[place.tile][layer].iter().skip(place.lane).step_by(place.lanes);
        states.take(size).copied().collect()
    }

    /// Sets the state of stream `stream` in layer `layer`.
    ///
    /// # Panics
    /// If there is no such stream or layer, or the state has a different length.
    #[track_caller]
    pub fn set_state(&mut self, stream: usize, layer: usize, state: &[R]) {
        let place = self.place(stream);
        let states = &mut self.states[place.tile][layer];
        assert_eq!(state.len(), self.model.slots()[layer].sizes.state, "the length of a state");
        states.iter_mut().skip(place.lane).step_by(place.lanes).zip(state).for_each(|(to, &from)| *to = from);
    }

    /// Normalises the steps, one for each of `n` streams, into the tiles of these, and lets the first layer check them.
    /// `stream` says whose a row is.
    fn gather(&mut self, steps: &ArrayView2<'_, R>, n: usize, stream: impl Fn(usize) -> usize) -> Result<()> {
        let f = self.model.input_shape().f;
        if steps.dim() != (n, f) {
            let found = format!("{} of {} features", steps.nrows(), steps.ncols());
            return Err(Error::mismatch("steps", found, format!("{n} of {f}")));
        }
        for tile in self.cut(n).tiles() {
            let x = &mut self.steps[tile.first * f..][..f * tile.lanes];
            for lane in 0..tile.valid {
                put_step(
                    self.model.normalization(),
                    steps.row(tile.first + lane).iter(),
                    x,
                    (lane, tile.lanes),
                );
            }
            x.chunks_exact_mut(tile.lanes).for_each(|row| row[tile.valid..].fill(R::ZERO));
            self.buffers.alone.check(&self.model, x, (tile.valid, tile.lanes), |lane| {
                format!("stream {}", stream(tile.first + lane))
            })?;
        }
        Ok(())
    }

    /// Takes one step with the streams of a tile, whose states are in its buffers.
    fn pass(&mut self, tile: Tile) {
        let f = self.model.input_shape().f;
        let x = &self.steps[tile.first * f..][..f * tile.lanes];
        let y = self.buffers.of(tile).pass(&self.model, x, (tile.valid, tile.lanes));
        let f = y.len() / tile.lanes;
        let rows = self.output[tile.first * f..].chunks_exact_mut(f).take(tile.valid);
        for (lane, row) in rows.enumerate() {
            let values = row.iter_mut().zip(y[lane..].iter().step_by(tile.lanes)).enumerate();
            values.for_each(|(f, (to, &from))| *to = self.model.undo_target(from, f));
        }
    }

    /// Exchanges the states of tile `i` with those of its buffers.
    fn swap_states(&mut self, i: usize, tile: Tile) {
        self.buffers.of(tile).states().zip(&mut self.states[i]).for_each(|(a, b)| swap(a, b));
    }

    /// The first `n` rows of the outputs.
    fn outputs(&self, n: usize) -> Result<ArrayView2<'_, R>> {
        let f = self.model.output_shape().f;
        ArrayView2::from_shape((n, f), &self.output[..n * f])
            .map_err(|e| Error::mismatch("outputs", e, "an array that fits in memory"))
    }

    /// Calls `f` with each value of the states of these streams, and its place in the tile's buffers.
    fn move_states(&mut self, tile: Tile, streams: &[usize], f: impl Fn(&mut R, &mut R)) {
        for (lane, &stream) in streams.iter().enumerate() {
            let place = self.place(stream);
            let states = self.states[place.tile].iter_mut().zip(self.buffers.of(tile).states());
            for ((own, work), slot) in states.zip(self.model.slots()) {
                let own = own.iter_mut().skip(place.lane).step_by(place.lanes).take(slot.sizes.state);
                let work = work.iter_mut().skip(lane).step_by(tile.lanes);
                own.zip(work).for_each(|(own, work)| f(own, work));
            }
        }
    }

    /// Checks that there are such streams, and none twice.
    fn check_distinct(&mut self, which: &[usize]) -> Result<()> {
        let mark = |&&stream: &&usize| match self.pushed.get_mut(stream) {
            Some(pushed) => !std::mem::replace(pushed, true),
            None => false,
        };
        let distinct = which.iter().take_while(mark).count();
        which[..distinct].iter().for_each(|&stream| self.pushed[stream] = false);
        match which.get(distinct) {
            None => Ok(()),
            Some(stream) if *stream < self.count() => {
                Err(Error::mismatch("which", format!("stream {stream} twice"), "each stream at most once"))
            }
            Some(stream) => {
                let expected = format!("one of {} streams, counted from 0", self.count());
                Err(Error::mismatch("which", format!("stream {stream}"), expected))
            }
        }
    }

    fn cut(&self, n: usize) -> Cut {
        Cut::new(n, &self.buffers.alone)
    }

    #[track_caller]
    fn place(&self, stream: usize) -> Place {
        assert!(stream < self.count(), "found stream {stream}, expected one of {}", self.count());
        self.cut(self.count()).place(stream)
    }
}

/// How streams are cut into tiles: whole ones, and the rest as one more, or one by one if these are few.
///
/// The lanes of all tiles, one after another, are no more for fewer streams.
#[derive(Clone, Copy, Debug)]
struct Cut {
    streams: usize,
    /// Fewer pass one by one.
    few: usize,
    /// Lanes of a tile are a multiple of it.
    quantum: usize,
}

/// Some streams that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// The first of them; and also how many lanes the tiles before have.
    first: usize,
    valid: usize,
    lanes: usize,
}

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    tile: usize,
    lane: usize,
    lanes: usize,
}

impl Cut {
    fn new<R: Real>(streams: usize, alone: &Steps<R>) -> Self {
        // Where a layer does not take one lane, buffers for one stream have more.
        Self { streams, few: if alone.capacity == 1 { FEW } else { 1 }, quantum: R::QUANTUM }
    }

    /// The tile that is the `i`th, if there is one.
    fn tile(self, i: usize) -> Option<Tile> {
        let whole = self.streams / MAX_LANES;
        let rest = self.streams % MAX_LANES;
        if i < whole {
            return Some(Tile { first: i * MAX_LANES, valid: MAX_LANES, lanes: MAX_LANES });
        }
        let first = whole * MAX_LANES;
        if rest >= self.few {
            let tile = Tile { first, valid: rest, lanes: rest.next_multiple_of(self.quantum) };
            return (i == whole).then_some(tile);
        }
        (i < whole + rest).then_some(Tile { first: first + i - whole, valid: 1, lanes: 1 })
    }

    fn tiles(self) -> impl Iterator<Item = Tile> {
        (0..).map_while(move |i| self.tile(i))
    }

    /// The lanes of all tiles; `None` if they are too many to be addressed.
    fn lanes(self) -> Option<usize> {
        let few = self.streams % MAX_LANES < self.few;
        if few { Some(self.streams) } else { self.streams.checked_next_multiple_of(self.quantum) }
    }

    fn place(self, stream: usize) -> Place {
        let whole = self.streams / MAX_LANES;
        let (tile, lane) = match stream / MAX_LANES {
            tile if tile == whole && self.streams % MAX_LANES < self.few => (whole + stream % MAX_LANES, 0),
            tile => (tile, stream % MAX_LANES),
        };
        let lanes = self.tile(tile).map_or(1, |tile| tile.lanes);
        Place { tile, lane, lanes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_all_streams_in_order() {
        for (few, quantum) in [(FEW, 16), (FEW, 8), (1, 16)] {
            let mut before = 0;
            for streams in 0..400 {
                let cut = Cut { streams, few, quantum };
                let mut next = 0;
                for (i, tile) in cut.tiles().enumerate() {
                    assert_eq!(tile.first, next);
                    assert!(tile.valid <= tile.lanes && tile.lanes <= MAX_LANES);
                    assert!(tile.lanes % quantum == 0 || (tile.lanes, tile.valid) == (1, 1) && few > 1);
                    for lane in 0..tile.valid {
                        assert_eq!(cut.place(next + lane), Place { tile: i, lane, lanes: tile.lanes });
                    }
                    next += tile.valid;
                }
                assert_eq!(next, streams);
                // Room for all streams is room for some.
                let lanes = cut.tiles().map(|tile| tile.lanes).sum();
                assert_eq!(cut.lanes(), Some(lanes));
                assert!(lanes >= before);
                before = lanes;
            }
        }
    }
}
