"""Which of three machines does a recording come from? Recordings are 8 to 40 steps long."""
import copy

import numpy as np
import torch
from sklearn.metrics import classification_report, confusion_matrix
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

MACHINES = ["pump", "fan", "mill"]


def recordings(n, seed):
    rng, sequences = np.random.default_rng(seed), []
    for i in range(n):
        steps, machine = rng.integers(8, 41), i % 3
        phase, strength = rng.uniform(0, 6.28), rng.uniform(0.5, 1.5)
        pace = [0.5, 0.8, 1.2][machine] * rng.uniform(0.95, 1.05)
        t, sensor = np.arange(steps)[:, None], np.arange(2)
        x = strength * np.sin(phase + pace * t + 1.57 * sensor) + rng.uniform(-0.6, 0.6, (steps, 2))
        sequences.append(torch.tensor(x, dtype=torch.float32))
    return sequences, torch.arange(n) % 3


class Classifier(nn.Module):
    def __init__(self, mean, sd):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)
        self.lstm = nn.LSTM(2, 24, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(48, 3)

    def forward(self, x, lengths):
        x = (x - self.mean) / self.sd
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.linear(torch.cat([h[0], h[1]], 1))


torch.manual_seed(1)
sequences, machines = recordings(900, 1)
x, lengths = pad_sequence(sequences, batch_first=True), torch.tensor([len(s) for s in sequences])
order = torch.cat([torch.randperm(300) * 3 + c for c in range(3)]).view(3, 300)  # stratified
valid, train = order[:, :50].flatten(), order[:, 50:].flatten()
steps = torch.cat([sequences[i] for i in train])
model = Classifier(steps.mean(0), steps.std(0, correction=0))
loss, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=5e-3)
best, patience, weights = float("inf"), 0, None
for epoch in range(12):
    model.train()
    for batch in train[torch.randperm(len(train))].split(32):
        optimizer.zero_grad()
        loss(model(x[batch], lengths[batch]), machines[batch]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        validation = loss(model(x[valid], lengths[valid]), machines[valid]).item()
    patience += 1
    if validation < best:
        best, patience, weights = validation, 0, copy.deepcopy(model.state_dict())
    if patience == 4:
        break
model.load_state_dict(weights)

sequences, machines = recordings(300, 2)
x, lengths = pad_sequence(sequences, batch_first=True), torch.tensor([len(s) for s in sequences])
with torch.no_grad():
    classes = model(x, lengths).argmax(1)
print(confusion_matrix(machines, classes))
print(classification_report(machines, classes, target_names=MACHINES))
assert (classes == machines).float().mean() > 0.95
with torch.no_grad():
    alone = model(sequences[0][None], torch.tensor([len(sequences[0])])).argmax(1)
print("the first recording is of the", MACHINES[alone])
