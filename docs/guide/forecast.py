"""The next day's demand for power, from two weeks of demand, temperature and day of the week."""
import copy
import os
import tempfile

import numpy as np
import torch
from torch import nn

DEMAND, WEEKDAY, STEPS = 0, 2, 14


def make_series(days):
    rng = np.random.default_rng(3)
    series, weather, habit = np.zeros((days, 3)), 0.0, 0.0
    for day in range(days):
        a, b, noise = rng.normal(size=3)
        weather, habit = 0.8 * weather + 2 * a, 0.98 * habit + 10 * b
        temperature = 10 - 12 * np.cos(day / 365.25 * 2 * np.pi) + weather
        working = 120 if day % 7 < 5 else 0
        heating = 15 * max(16 - temperature, 0)
        series[day] = 2000 + working + heating + habit + 20 * noise, temperature, day % 7
    return torch.tensor(series, dtype=torch.float32)


class Windows(torch.utils.data.Dataset):
    def __init__(self, series, times):
        self.series, self.times = series, times

    def __len__(self):
        return len(self.times)

    def __getitem__(self, i):
        time = self.times[i]
        return self.series[time - STEPS:time], self.series[time, DEMAND:DEMAND + 1]

    def all(self):
        x, y = zip(*(self[i] for i in range(len(self))))
        return torch.stack(x), torch.stack(y)


class Forecaster(nn.Module):
    def __init__(self, mean, sd, target_mean, target_sd):
        super().__init__()
        for name, value in [("mean", mean), ("sd", sd), ("target_mean", target_mean), ("target_sd", target_sd)]:
            self.register_buffer(name, value)
        self.weekday = nn.Embedding(7, 3)
        self.lstm = nn.LSTM(2 + 3, 24, batch_first=True)
        self.linear = nn.Linear(24, 1)

    def forward(self, x):
        numbers = ((x - self.mean) / self.sd)[..., :WEEKDAY]
        x = torch.cat([numbers, self.weekday(x[..., WEEKDAY].long())], -1)
        return self.linear(self.lstm(x)[0][:, -1])

    @torch.no_grad()
    def predict(self, x):
        return self(x) * self.target_sd + self.target_mean


def rmse(truth, predicted):
    return (truth - predicted).square().mean().sqrt().item()


torch.manual_seed(1)
series = make_series(1500)
train, valid, test = (
    Windows(series, range(*times)) for times in [(STEPS, 1000), (1000, 1200), (1200, 1500)]
)
(x, y), (valid_x, valid_y) = train.all(), valid.all()
model = Forecaster(x.mean((0, 1)), x.std((0, 1), correction=0), y.mean(), y.std(correction=0))
scaled = (valid_y - model.target_mean) / model.target_sd
loss, optimizer = nn.MSELoss(), torch.optim.Adam(model.parameters(), lr=5e-3)
best, patience, weights = float("inf"), 0, None
for epoch in range(40):
    model.train()
    for x, y in torch.utils.data.DataLoader(train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        loss(model(x), (y - model.target_mean) / model.target_sd).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        validation = loss(model(valid_x), scaled).item()
    patience += 1
    if validation < best:
        best, patience, weights = validation, 0, copy.deepcopy(model.state_dict())
    if patience == 8:
        break
model.load_state_dict(weights)

file = os.path.join(tempfile.gettempdir(), f"demand-{os.getpid()}.pt")
torch.save(model.state_dict(), file)
model = Forecaster(*[torch.zeros(3), torch.ones(3), torch.tensor(0.0), torch.tensor(1.0)])
model.load_state_dict(torch.load(file))
os.remove(file)

test_x, truth = test.all()
error = rmse(truth, model.predict(test_x))
yesterday, last_week = (rmse(truth[:, 0], series[1200 - days:1500 - days, DEMAND]) for days in [1, 7])
print(f"RMSE in MW: {error:.1f}; yesterday's demand {yesterday:.1f}, last week's {last_week:.1f}")
assert error < 0.75 * min(yesterday, last_week)
print(f"tomorrow: {model.predict(series[None, -STEPS:]).item():.0f} MW")
