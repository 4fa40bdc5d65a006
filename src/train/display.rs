//! Scores, epochs and histories as text.

use std::fmt::{self, Display, Formatter};

use super::{Epoch, History, Score};

/// `loss 0.4663  accuracy 83.17 %`, without the accuracy where there is none, and with `none` instead of the loss where no
/// target counts.
impl Display for Score {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.loss {
            Some(loss) => write!(f, "loss {loss:.4}")?,
            None => write!(f, "loss none")?,
        }
        self.accuracy.map_or(Ok(()), |accuracy| write!(f, "  accuracy {:.2} %", 100.0 * accuracy))
    }
}

/// `epoch 2   train loss 0.5025  accuracy 82.27 %   valid loss 0.4663  accuracy 83.17 %   0.50 s`. A width, as in
/// `{epoch:3}`, is that of the number, so that lines are aligned.
impl Display for Epoch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = f.width().unwrap_or(0);
        write!(f, "epoch {:>width$}   train {}", self.epoch, self.train)?;
        if let Some(valid) = &self.valid {
            write!(f, "   valid {valid}")?;
        }
        write!(f, "   {:.2} s", self.seconds)
    }
}

/// A line for each epoch; if there are several, the best one is marked.
impl Display for History {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = self.epochs.iter().map(|epoch| epoch.epoch.to_string().len()).max().unwrap_or(0);
        let best = self.best().filter(|_| self.epochs.len() > 1).map(|epoch| epoch.epoch);
        for (i, epoch) in self.epochs.iter().enumerate() {
            let mark = if best == Some(epoch.epoch) { "   best" } else { "" };
            write!(f, "{}{epoch:width$}{mark}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_read_well() {
        let score = |loss, accuracy| Score { loss: Some(loss), accuracy };
        let epoch = |epoch, valid| {
            let valid = Some(score(valid, Some(0.8317)));
            Epoch { epoch, train: score(0.50249, Some(0.82268)), valid, lr: 0.1, seconds: 0.4961 }
        };
        let two =
            "epoch 2   train loss 0.5025  accuracy 82.27 %   valid loss 0.4663  accuracy 83.17 %   0.50 s";
        assert_eq!(epoch(2, 0.46632).to_string(), two);
        assert!(format!("{:3}", epoch(2, 0.5)).starts_with("epoch   2   train"));
        let values = Epoch { valid: None, train: score(1.0, None), ..epoch(1, 0.0) };
        assert_eq!(values.to_string(), "epoch 1   train loss 1.0000   0.50 s");
        assert_eq!(Score { loss: None, accuracy: None }.to_string(), "loss none");

        let history = |losses: &[f64]| History {
            epochs: losses.iter().enumerate().map(|(i, &loss)| epoch(i + 1, loss)).collect(),
        };
        assert_eq!(history(&[]).to_string(), "");
        assert_eq!(history(&[0.5]).to_string().lines().count(), 1);
        let lines: Vec<_> = history(&[0.5, 0.46632, 0.6]).to_string().lines().map(str::to_owned).collect();
        assert_eq!((lines.len(), &*lines[1]), (3, &*format!("{two}   best")));
        assert!(!lines[0].contains("best") && !lines[2].contains("best"));
    }
}
