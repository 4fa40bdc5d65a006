//! What the examples train, and how: values that go into files as they are.

use bptt::data::{Augment, Dataset, DatasetExt, FashionMnist, HardestShare};
use bptt::loss::{CrossEntropy, Loss, MultiMargin, Nll};
use bptt::nn::{Gru, Linear, LogSoftmax, Lstm, ModelBuilder, PeepholeLstm, Rnn};
use bptt::optim::{Adam, AdamW, Adamax, Muon, RmsProp, Sgd};
use bptt::prune::Units;
use bptt::train::schedule::OneCycle;
use bptt::train::{Clip, History};
use bptt::{Model, Result, Trainer, rng};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A network that reads images row by row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub cell: Cell,
    pub hidden: usize,
    pub layers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Long short-term memory
    Lstm,
    /// Long short-term memory whose gates also see the cell state
    Peephole,
    /// Gated recurrent unit
    Gru,
    /// Traditional recurrent network with tanh
    Rnn,
}

/// How a network is trained, and retrained once it is pruned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub batch_size: usize,
    /// The largest norm of the gradient.
    pub clip: Option<f64>,
    /// The decay of the averaged weights.
    pub ema: Option<f64>,
    pub epochs: usize,
    /// The probability that a rectangle of an image, 2 to 20 % of it, is erased.
    #[serde(default, skip_serializing_if = "is_default")]
    pub erase: f64,
    /// The probability that an image is mirrored.
    pub flip: f64,
    /// Whether every image is mirrored in every other epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flip_alternately: bool,
    /// The share of the images that an epoch draws, those with the largest losses; the first epoch and the last draw all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hardest: Option<f64>,
    /// The share of each target that is spread over all classes, with cross-entropy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    pub loss: Criterion,
    /// The learning rate; with one cycle, the highest.
    pub lr: f64,
    /// By mean and sd of the training images.
    pub normalize: bool,
    pub one_cycle: bool,
    pub optimizer: Rule,
    pub retrain_epochs: usize,
    /// Pixels by which an image is moved, at the most.
    pub shift: usize,
    pub weight_decay: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    CrossEntropy,
    Nll,
    MultiMargin,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    Adam,
    AdamW,
    Adamax,
    RmsProp,
    Sgd,
    /// SGD with momentum 0.9.
    Momentum,
    /// Muon with momentum 0.9.
    Muon,
}

/// The two trainings of a pruned model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    Train,
    Retrain,
}

/// Whether a setting is as it is by default. Those that studies did not have at first are left out of their files then.
pub fn is_default<T: Default + PartialEq>(setting: &T) -> bool {
    *setting == T::default()
}

impl Recipe {
    /// The paper's, and where it is silent PyTorch's defaults.
    pub fn paper() -> Self {
        Self {
            batch_size: 64,
            clip: None,
            ema: None,
            epochs: 20,
            erase: 0.0,
            flip: 0.0,
            flip_alternately: false,
            hardest: None,
            label_smoothing: 0.0,
            loss: Criterion::CrossEntropy,
            lr: 0.001,
            normalize: true,
            one_cycle: false,
            optimizer: Rule::Adam,
            retrain_epochs: 20,
            shift: 0,
            weight_decay: 0.0,
        }
    }

    /// What did best on validation images, at the same number of layers, units, patterns and epochs. More layers are
    /// better off with images that are moved as well.
    pub fn tuned_for(layers: usize) -> Self {
        Self {
            flip: 0.5,
            lr: 0.007,
            one_cycle: true,
            optimizer: Rule::AdamW,
            shift: if layers > 2 { 1 } else { 0 },
            weight_decay: 0.02,
            ..Self::paper()
        }
    }

    /// What did best on validation images in seven epochs, of two layers of 35 units and 48,000 images.
    #[allow(dead_code, reason = "not every example is in a hurry")]
    pub fn fast_on_all() -> Self {
        Self {
            epochs: 7,
            lr: 0.014,
            one_cycle: true,
            optimizer: Rule::Muon,
            retrain_epochs: 7,
            weight_decay: 0.04,
            ..Self::paper()
        }
    }

    /// The same where most epochs draw the harder half of the images: twelve draw as many images as seven of all.
    #[allow(dead_code, reason = "not every example is in a hurry")]
    pub fn fast() -> Self {
        let (epochs, hardest) = (12, Some(0.5));
        Self { epochs, flip_alternately: true, hardest, retrain_epochs: 12, ..Self::fast_on_all() }
    }

    /// The network, for images like `train`'s.
    pub fn model(&self, network: &Network, train: &dyn Dataset<Elem = f32>, seed: u64) -> Result<Model> {
        let Network { cell, hidden, layers } = *network;
        self.model_of(train, seed, |builder| match cell {
            Cell::Lstm => builder.layer("lstm", Lstm::new(hidden).layers(layers).last()),
            Cell::Peephole => builder.layer("lstm", PeepholeLstm::new(hidden).layers(layers).last()),
            Cell::Gru => builder.layer("gru", Gru::new(hidden).layers(layers).last()),
            Cell::Rnn => builder.layer("rnn", Rnn::new(hidden).layers(layers).last()),
        })
    }

    /// A network of the layers that `layers` adds, with a linear one on top.
    pub fn model_of(
        &self,
        train: &dyn Dataset<Elem = f32>,
        seed: u64,
        layers: impl FnOnce(ModelBuilder<f32>) -> ModelBuilder<f32>,
    ) -> Result<Model> {
        let mut builder = Model::builder(train.shape()).classes(FashionMnist::CLASSES);
        if self.normalize {
            builder = builder.normalize(train.mean_sd()?);
        }
        builder = layers(builder).layer("linear", Linear::new(FashionMnist::CLASSES.len()));
        if self.loss == Criterion::Nll {
            builder = builder.layer("log_softmax", LogSoftmax);
        }
        builder.build(seed)
    }

    /// The trainer of a phase. The phases shuffle and augment from seeds of their own.
    pub fn trainer(&self, phase: Phase, seed: u64) -> Trainer {
        match self.loss {
            Criterion::CrossEntropy => {
                let loss = CrossEntropy::default().label_smoothing(self.label_smoothing);
                self.trainer_with(loss, phase, seed)
            }
            Criterion::Nll => self.trainer_with(Nll::default(), phase, seed),
            Criterion::MultiMargin => self.trainer_with(MultiMargin::default(), phase, seed),
        }
    }

    fn trainer_with(&self, loss: impl Loss<f32> + 'static, phase: Phase, seed: u64) -> Trainer {
        let (lr, decay) = (self.lr, self.weight_decay);
        let trainer = match self.optimizer {
            Rule::Adam => Trainer::new(loss, Adam::new(lr).weight_decay(decay)),
            Rule::AdamW => Trainer::new(loss, AdamW::new(lr).weight_decay(decay)),
            Rule::Adamax => Trainer::new(loss, Adamax::new(lr).weight_decay(decay)),
            Rule::RmsProp => Trainer::new(loss, RmsProp::new(lr).weight_decay(decay)),
            Rule::Sgd => Trainer::new(loss, Sgd::new(lr).weight_decay(decay)),
            Rule::Muon => Trainer::new(loss, Muon::new(lr).momentum(0.9).weight_decay(decay)),
            Rule::Momentum => Trainer::new(loss, Sgd::new(lr).momentum(0.9).weight_decay(decay)),
        };
        let (epochs, seed) = match phase {
            Phase::Train => (self.epochs, seed),
            Phase::Retrain => (self.retrain_epochs, rng::key(&[seed, 1])),
        };
        let mut trainer = trainer.epochs(epochs).batch_size(self.batch_size).seed(seed);
        if self.one_cycle {
            trainer = trainer.schedule(OneCycle::new(lr));
        }
        if let Some(norm) = self.clip {
            trainer = trainer.clip(Clip::Norm(norm));
        }
        if let Some(decay) = self.ema {
            trainer = trainer.ema(decay);
        }
        if let Some(share) = self.hardest {
            trainer = trainer.sampler(HardestShare::new(share));
        }
        trainer
    }

    /// Cuts the least important units of a trained model, until at most `share` of the weights is left. Those that are left make
    /// up for the mean of what is cut.
    pub fn cut_units(
        &self,
        model: &mut Model,
        train: &dyn Dataset<Elem = f32>,
        share: f64,
        seed: u64,
    ) -> Result<()> {
        let importance = self.trainer(Phase::Train, seed).unit_importance(model, train)?;
        model.prune_compensated(Units::weights(share).by(importance), train)?;
        *model = model.compact()?;
        Ok(())
    }

    /// How many epochs the `small` model has from scratch with as many multiply-adds as the training of a wide one, of so many
    /// parameters, and the retraining together.
    pub fn epochs_from_scratch(&self, wide: usize, small: &Model) -> usize {
        let times = wide as f64 / small.parameter_count() as f64;
        (self.epochs as f64 * times).round() as usize + self.retrain_epochs
    }

    /// Fits, on augmented images if the recipe has it so.
    pub fn fit(
        &self,
        mut trainer: Trainer,
        model: &mut Model,
        train: &dyn Dataset<Elem = f32>,
        valid: Option<&dyn Dataset<Elem = f32>>,
    ) -> Result<History> {
        if self.shift == 0 && self.flip == 0.0 && !self.flip_alternately && self.erase == 0.0 {
            return trainer.fit(model, train, valid);
        }
        let mut augment = Augment::new(train).shift(self.shift).flip(self.flip);
        if self.flip_alternately {
            augment = augment.flip_alternately();
        }
        trainer.fit(model, &augment.erase_area(self.erase, 0.02..=0.2).build()?, valid)
    }
}
