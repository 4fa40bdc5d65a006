//! Every optimizer against PyTorch, in f64 and f32, and what all of them have in common; at every SIMD level that the
//! machine has.
//!
//! A new rule is a row of [`rules`].

use bptt::data::{Arrays, Batch, Draw};
use bptt::loss::Mse;
use bptt::nn::Linear;
use bptt::optim::{Adam, AdamW, Adamax, MAX_MOMENTS, Muon, Optimizer, RmsProp, Sgd, Update};
use bptt::{Model, Real, Result, Shape, Trainer, rng};
use ndarray::{Array1, Array2, Array3, Ix2};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Uniform;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::common::{Fixture, assert_close};

/// An optimizer for both scalars, and its settings.
trait Rule: Optimizer<f32> + Optimizer<f64> {
    fn json(&self) -> Value;
    /// The same kind of rule with these settings.
    fn with(&self, json: &Value) -> Box<dyn Rule>;
}

impl<O: Optimizer<f32> + Optimizer<f64> + Serialize + DeserializeOwned + 'static> Rule for O {
    fn json(&self) -> Value {
        serde_json::to_value(self).expect("settings are JSON")
    }

    fn with(&self, json: &Value) -> Box<dyn Rule> {
        Box::new(serde_json::from_value::<O>(json.clone()).expect("settings of this rule"))
    }
}

/// PyTorch's cases, and the rule of each; all have a learning rate of 0.01.
fn rules() -> Vec<(&'static str, Box<dyn Rule>)> {
    let sgd = || Sgd::new(0.01);
    let adam = || Adam::new(0.01);
    let adamw = || AdamW::new(0.01);
    let rms_prop = || RmsProp::new(0.01);
    vec![
        ("optim_adam", Box::new(adam())),
        ("optim_adam_amsgrad", Box::new(adam().amsgrad())),
        ("optim_adam_decay", Box::new(adam().weight_decay(0.01))),
        ("optim_adamax", Box::new(Adamax::new(0.01))),
        ("optim_adamw", Box::new(adamw())),
        ("optim_adamw_amsgrad", Box::new(adamw().amsgrad())),
        ("optim_rmsprop", Box::new(rms_prop())),
        ("optim_rmsprop_centered", Box::new(rms_prop().centered())),
        ("optim_rmsprop_momentum", Box::new(rms_prop().momentum(0.9))),
        ("optim_sgd", Box::new(sgd())),
        ("optim_sgd_momentum", Box::new(sgd().momentum(0.9))),
        ("optim_sgd_momentum_decay", Box::new(sgd().momentum(0.9).weight_decay(0.01).dampening(0.1))),
        ("optim_sgd_nesterov", Box::new(sgd().momentum(0.9).nesterov())),
    ]
}

/// Parameters on their way, with as many moments as the rule keeps.
struct Run<'a, R: Real> {
    rule: &'a dyn Optimizer<R>,
    p: Vec<R>,
    moments: Vec<Vec<R>>,
    steps: u64,
}

impl<'a, R: Real> Run<'a, R> {
    fn new(rule: &'a dyn Optimizer<R>, p: &[f64]) -> Self {
        rule.check().expect("settings that can be");
        assert!(rule.moments() <= MAX_MOMENTS);
        let moments = vec![vec![R::ZERO; p.len()]; rule.moments()];
        Self { rule, p: p.iter().map(|&p| R::from_f64(p)).collect(), moments, steps: 0 }
    }

    fn step(&mut self, lr: f64, g: &[f64]) {
        self.step_between(lr, g, 0..g.len(), true);
    }

    /// A step of some of the parameters; `last` ends it.
    fn step_between(&mut self, lr: f64, g: &[f64], range: std::ops::Range<usize>, last: bool) {
        let g: Vec<R> = g[range.clone()].iter().map(|&g| R::from_f64(g)).collect();
        let mut places = self.moments.iter_mut().map(|moment| &mut moment[range.clone()]);
        let places = std::array::from_fn(|_| places.next().unwrap_or_default());
        let update = Update::new(lr, &mut self.p[range], &g);
        self.rule.update(update.step(self.steps + 1).moments(places));
        self.steps += u64::from(last);
    }

    fn values(&self) -> Vec<f64> {
        self.p.iter().map(|p| p.to_f64()).collect()
    }
}

/// Reproducible values from −1 to 1.
fn numbers(len: usize, salt: usize) -> Vec<f64> {
    let uniform = Uniform::new(-1.0, 1.0).expect("a range");
    Array1::random_using(len, uniform, &mut rng::rng(salt as u64)).to_vec()
}

// --- PyTorch ---

#[test]
fn ten_steps_are_pytorchs() {
    for (case, rule) in rules() {
        ten_steps::<f64>(case, &*rule, 1e-14);
        ten_steps::<f32>(case, &*rule, 1e-6);
    }
}

fn ten_steps<R: Real>(name: &str, rule: &dyn Optimizer<R>, tolerance: f64) {
    let case = Fixture::open(name);
    let (grads, expected): (Array2<f64>, Array2<f64>) = (case.get::<Ix2>("grads"), case.get("params"));
    let mut run = Run::new(rule, &case.values("p0"));
    for (g, expected) in grads.rows().into_iter().zip(expected.rows()) {
        run.step(rule.lr(), &g.to_vec());
        let what = format!("{name} in {:?}, step {}", R::DTYPE, run.steps);
        assert_close(&what, &run.values(), &expected.to_vec(), tolerance);
    }
}

#[test]
fn no_case_is_left_out() {
    let listed: Vec<_> = rules().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(listed, Fixture::all("optimizer"));
}

#[test]
fn settings_and_defaults_are_pytorchs() {
    for (name, rule) in rules() {
        let pytorchs = rule.with(&Fixture::open(name).case["args"]);
        assert_eq!(format!("{rule:?}"), format!("{pytorchs:?}"), "{name}");
    }
}

/// ```python
/// p = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
/// rule = …([p], lr=0.1, …)
/// for g in [0.5, -0.25, 0.0], [-1.0, 0.125, 2.0], [0.75, 0.5, -0.5]:
///     p.grad = torch.tensor(g); rule.step()
/// print(p.tolist())  # torch 2.15.0, float64
/// ```
#[test]
fn settings_together_are_pytorchs() {
    let cases: [(Box<dyn Rule>, [f64; 3]); 7] = [
        (
            Box::new(RmsProp::new(0.1).centered().momentum(0.8).weight_decay(0.1).alpha(0.9).eps(1e-3)),
            [0.48234165650477173, -1.3434790222821047, -0.775290853195013],
        ),
        (
            Box::new(RmsProp::new(0.1).momentum(0.8)),
            [-0.3878199981831587, -1.2429640587738482, -1.0563148324621983],
        ),
        (
            Box::new(Adamax::new(0.1).weight_decay(0.1).betas(0.8, 0.7).eps(1e-3)),
            [0.9021642595371665, -1.8225247057330527, 0.31096147433210053],
        ),
        (
            Box::new(AdamW::new(0.1).weight_decay(0.1).betas(0.8, 0.9).eps(1e-3).amsgrad()),
            [0.8994323922917202, -1.8746420608337038, 0.3723128215849713],
        ),
        (
            Box::new(Adam::new(0.1).weight_decay(0.1).betas(0.8, 0.9).eps(1e-3).amsgrad()),
            [0.905364745022458, -1.8251517425284667, 0.28442874837574],
        ),
        (
            Box::new(Sgd::new(0.1).weight_decay(0.1).momentum(0.8).nesterov()),
            [0.891799408, -1.907029556, 0.0731182839999999],
        ),
        (Box::new(Sgd::new(0.1).weight_decay(0.1)), [0.945294, -1.9784705, 0.3371495]),
    ];
    for (rule, expected) in &cases {
        let what = format!("{rule:?}");
        assert_close(&what, &three_steps::<f64>(&**rule), expected, 1e-14);
        assert_close(&what, &three_steps::<f32>(&**rule), expected, 1e-6);
    }
}

/// Muon by plain loops: momentum, then iterations on whole matrices. PyTorch's iterates in bfloat16, which has two digits.
fn muon_by_loops([rows, columns]: [usize; 2], p: &mut [f64], grads: &[Vec<f64>]) {
    type Rows = Vec<Vec<f64>>;
    fn product(a: &Rows, b: &Rows) -> Rows {
        let entry = |row: &Vec<f64>, j: usize| row.iter().zip(b).map(|(a, b)| a * b[j]).sum();
        a.iter().map(|row| (0..b[0].len()).map(|j| entry(row, j)).collect()).collect()
    }
    let transpose =
        |a: &Rows| -> Rows { (0..a[0].len()).map(|j| a.iter().map(|row| row[j]).collect()).collect() };
    let mut mean = vec![0.0; p.len()];
    for g in grads {
        mean.iter_mut().zip(g).for_each(|(m, g)| *m = 0.9 * *m + 0.1 * g);
        let u: Vec<f64> = mean.iter().zip(g).map(|(m, g)| 0.9 * m + 0.1 * g).collect();
        let norm = u.iter().map(|u| u * u).sum::<f64>().sqrt();
        let mut x: Rows = u.chunks(columns).map(|row| row.iter().map(|u| u / norm).collect()).collect();
        for _ in 0..5 {
            let a = product(&x, &transpose(&x));
            let (once, twice) = (product(&a, &x), product(&a, &product(&a, &x)));
            for (i, row) in x.iter_mut().enumerate() {
                for (j, x) in row.iter_mut().enumerate() {
                    *x = 3.4445 * *x - 4.775 * once[i][j] + 2.0315 * twice[i][j];
                }
            }
        }
        let length = 0.01 * 0.2 * (rows.max(columns) as f64).sqrt();
        p.iter_mut().zip(x.concat()).for_each(|(p, x)| *p = (1.0 - 0.01 * 0.1) * *p - length * x);
    }
}

#[test]
fn muon_is_the_plain_loops() {
    let rule = Muon::new(0.01).momentum(0.9);
    for shape in [[5, 3], [3, 5], [9, 9], [1, 4], [4, 1], [28, 19]] {
        let count = shape[0] * shape[1];
        let (start, grads) = (numbers(count, 1), [2, 3, 4].map(|salt| numbers(count, salt)));
        let mut expected = start.clone();
        muon_by_loops(shape, &mut expected, &grads);
        fn steps<R: Real>(
            rule: &dyn Optimizer<R>,
            shape: [usize; 2],
            start: &[f64],
            grads: &[Vec<f64>],
        ) -> Vec<f64> {
            // Whatever is left in the scratch must not matter.
            let mut scratch = vec![R::from_f64(7.0); rule.scratch(&shape).expect("whole tensors")];
            let of = |values: &[f64]| values.iter().map(|&x| R::from_f64(x)).collect::<Vec<_>>();
            let (mut p, mut m, mut v) = (of(start), of(&vec![0.0; start.len()]), of(&vec![0.0; start.len()]));
            for (g, step) in grads.iter().zip(1..) {
                let g = of(g);
                let update = Update::new(0.01, &mut p, &g).step(step).moments([&mut m, &mut v, &mut []]);
                rule.update(update.tensor(&shape, &mut scratch));
            }
            p.iter().map(|p| p.to_f64()).collect()
        }
        let what = format!("{shape:?}");
        assert_close(&what, &steps::<f64>(&rule, shape, &start, &grads), &expected, 1e-12);
        assert_close(&what, &steps::<f32>(&rule, shape, &start, &grads), &expected, 1e-5);
    }
}

#[test]
fn muon_is_adamw_where_there_is_no_matrix() {
    let (muon, adamw) = (Muon::new(0.01), AdamW::new(0.01).weight_decay(0.1));
    assert_eq!(three_steps::<f64>(&muon), three_steps::<f64>(&adamw));
}

fn three_steps<R: Real>(rule: &dyn Optimizer<R>) -> Vec<f64> {
    let mut run = Run::new(rule, &[1.0, -2.0, 0.5]);
    for g in [[0.5, -0.25, 0.0], [-1.0, 0.125, 2.0], [0.75, 0.5, -0.5]] {
        run.step(0.1, &g);
    }
    run.values()
}

// --- what all rules have in common ---

#[test]
fn the_learning_rate_is_that_of_the_step() {
    for (name, rule) in rules() {
        let (p, mut settings) = (numbers(23, 1), rule.json());
        settings["lr"] = json!(0.03);
        let faster = rule.with(&settings);
        assert_eq!(Optimizer::<f32>::lr(&*faster), 0.03, "{name}");
        let (mut a, mut b) = (Run::<f32>::new(&*rule, &p), Run::<f32>::new(&*faster, &p));
        let mut still = Run::<f32>::new(&*rule, &p);
        let before = still.values();
        for i in 0..3 {
            let g = numbers(23, 2 + i);
            a.step(0.05, &g);
            b.step(0.05, &g);
            still.step(0.0, &g);
        }
        assert_ne!(a.values(), before, "{name}");
        assert_eq!(a.values(), b.values(), "{name}");
        assert_eq!(still.values(), before, "{name}");
    }
}

#[test]
fn every_moment_is_used() {
    for (name, rule) in rules() {
        let mut run = Run::<f64>::new(&*rule, &[1.0; 23]);
        run.step(0.01, &[0.5; 23]);
        let used = run.moments.iter().flatten().all(|&moment| moment != 0.0);
        assert!(used, "{name}: {:?}", run.moments);
    }
}

/// So that a vector may be cut wherever threads or vector registers want it cut.
#[test]
fn parts_of_the_parameters_step_as_the_whole_does() {
    fn cut<R: Real>(name: &str, rule: &dyn Optimizer<R>) {
        let p = numbers(37, 1);
        let (mut whole, mut parts) = (Run::new(rule, &p), Run::new(rule, &p));
        for i in 0..5 {
            let g = numbers(37, 2 + i);
            whole.step(0.01, &g);
            parts.step_between(0.01, &g, 13..37, false);
            parts.step_between(0.01, &g, 0..13, true);
        }
        assert_eq!(whole.values(), parts.values(), "{name}");
        assert_eq!(whole.moments, parts.moments, "{name}");
    }
    for (name, rule) in rules() {
        cut::<f32>(name, &*rule);
        cut::<f64>(name, &*rule);
    }
}

#[test]
fn what_is_0_and_has_no_gradient_stays_0() {
    for (name, rule) in rules() {
        let mut settings = rule.json();
        settings["weight_decay"] = json!(0.1);
        let rule = rule.with(&settings);
        let pruned = |i: usize| i.is_multiple_of(3);
        let zeroed = |mut x: Vec<f64>| {
            x.iter_mut().enumerate().filter(|(i, _)| pruned(*i)).for_each(|(_, x)| *x = 0.0);
            x
        };
        let mut run = Run::<f32>::new(&*rule, &zeroed(numbers(23, 1)));
        (0..20).for_each(|i| run.step(0.01, &zeroed(numbers(23, 2 + i))));
        for (i, &p) in run.p.iter().enumerate() {
            assert_eq!(p == 0.0, pruned(i), "{name}: parameter {i} is {p}");
        }
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |rule: &dyn Rule, name: &str| {
        let checks = [Optimizer::<f32>::check(rule), Optimizer::<f64>::check(rule)];
        for check in checks {
            let error = check.expect_err(name).to_string();
            assert!(error.contains(&format!("`{name}`: found ")), "{rule:?}: {error}");
        }
    };
    for (_, rule) in rules() {
        let settings = rule.json();
        for (name, value) in settings.as_object().expect("named settings") {
            let change = |value: Value| {
                let mut settings = settings.clone();
                settings[name] = value;
                rule.with(&settings)
            };
            if value.is_number() {
                refused(&*change(json!(-1.0)), name);
            }
            if name == "alpha" {
                refused(&*change(json!(1.0)), "alpha");
            }
            if name == "betas" {
                refused(&*change(json!([1.0, 0.9])), "beta1");
                refused(&*change(json!([-0.1, 0.9])), "beta1");
                refused(&*change(json!([0.9, 1.0])), "beta2");
                refused(&*change(json!([0.9, -0.1])), "beta2");
            }
        }
    }
    for number in [f64::NAN, f64::INFINITY] {
        refused(&Adam::new(number), "lr");
        refused(&AdamW::new(0.1).weight_decay(number), "weight_decay");
        refused(&Adamax::new(0.1).eps(number), "eps");
        refused(&RmsProp::new(0.1).momentum(number), "momentum");
        refused(&Sgd::new(0.1).momentum(0.5).dampening(number), "dampening");
    }
    // A parameter that has never had a gradient would become 0 / 0.
    for eps in [0.0, 1e-50] {
        refused(&Adam::new(0.1).eps(eps), "eps");
        refused(&AdamW::new(0.1).eps(eps), "eps");
        refused(&Adamax::new(0.1).eps(eps), "eps");
        refused(&RmsProp::new(0.1).eps(eps), "eps");
    }
    refused(&Sgd::new(0.1).nesterov(), "nesterov");
    refused(&Sgd::new(0.1).momentum(0.9).dampening(0.1).nesterov(), "nesterov");
}

/// A rule of the list, for a trainer.
#[derive(Debug)]
struct Boxed(Box<dyn Rule>);

impl Optimizer<f32> for Boxed {
    fn lr(&self) -> f64 {
        Optimizer::<f32>::lr(&*self.0)
    }
    fn moments(&self) -> usize {
        Optimizer::<f32>::moments(&*self.0)
    }
    fn check(&self) -> Result<()> {
        Optimizer::<f32>::check(&*self.0)
    }
    fn update(&self, update: Update<'_, f32>) {
        self.0.update(update);
    }
}

#[test]
fn a_stepper_keeps_a_rules_moments() -> Result<()> {
    let numbers = |features, salt| {
        let values = numbers(12 * features, salt).into_iter().map(|x| x as f32).collect();
        Array3::from_shape_vec((12, 1, features), values).expect("as many values as the shape has")
    };
    let data = Arrays::values(numbers(4, 1), numbers(2, 2))?;
    let batch = Draw::all(0..12);
    for (name, rule) in rules() {
        let alone = rule.with(&rule.json());
        let mut model: Model = Model::builder(Shape::new(1, 4)).layer("linear", Linear::new(2)).build(1)?;
        let p: Vec<f64> = model.params().as_slice().iter().map(|&p| p.into()).collect();
        let mut run = Run::<f32>::new(&*alone, &p);
        let trainer = Trainer::new(Mse, Boxed(rule)).batch_size(12);
        let mut stepper = trainer.stepper(&model, &data)?;
        for _ in 0..10 {
            stepper.gradients(&model, &data, Batch::new(&batch, 1, 0))?;
            let g: Vec<f64> = stepper.grads().as_slice().iter().map(|&g| g.into()).collect();
            run.step(0.01, &g);
            stepper.update(&mut model);
            assert_eq!(model.params().as_slice(), run.p, "{name}, step {}", run.steps);
        }
    }
    Ok(())
}

// --- single rules ---

#[test]
fn adamw_without_decay_is_adam() {
    let (adam, adamw) = (Adam::new(0.01), AdamW::new(0.01).weight_decay(0.0));
    let p = numbers(23, 1);
    let (mut a, mut b) = (Run::<f32>::new(&adam, &p), Run::<f32>::new(&adamw, &p));
    for i in 0..5 {
        a.step(0.01, &numbers(23, 2 + i));
        b.step(0.01, &numbers(23, 2 + i));
    }
    assert_eq!(a.values(), b.values());
}

/// A gradient that never changes has no variance, and rounding is not to make it negative.
#[test]
fn centered_rms_prop_survives_a_constant_gradient() {
    let rule = RmsProp::new(1e-6).alpha(0.9).centered();
    let mut run = Run::<f32>::new(&rule, &[0.0; 64]);
    let g: Vec<f64> = (0..64).map(|i| 0.1 + 0.37 * f64::from(i)).collect();
    for step in 1..=2000 {
        run.step(1e-6, &g);
        assert!(run.p.iter().all(|p| p.is_finite()), "step {step}: {:?}", run.p);
    }
}

// --- all of them again ---
