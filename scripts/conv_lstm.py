"""The model of `fashion_mnist --model conv-lstm` and `conv-lstm-small`, in PyTorch."""

import torch
from torch import nn

# Channels of the three convolutions, units of the LSTM in each direction.
SIZES = {"conv-lstm": ([16, 32, 64], 64), "conv-lstm-small": ([8, 16, 24], 24)}


class ConvLstm(nn.Module):
    def __init__(self, channels, hidden, dropout=0.0):
        super().__init__()
        for i, (below, above) in enumerate(zip([1, *channels], channels), 1):
            stride = (1, 2) if i == 3 else 1
            self.add_module(f"conv{i}", nn.Conv2d(below, above, 3, stride, padding=1, bias=False))
            self.add_module(f"norm{i}", nn.BatchNorm2d(above))
        self.pool = nn.MaxPool2d(2)
        # Seven rows of four columns.
        self.lstm = nn.LSTM(4 * channels[2], hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * hidden, 10)

    def forward(self, x):
        x = self.norm1(self.pool(self.conv1(x[:, None]))).relu()
        x = self.norm2(self.pool(self.conv2(x))).relu()
        x = self.norm3(self.conv3(x)).relu()
        # [batch, channels, rows, columns]: a step is a row, with the channels last.
        x = self.lstm(x.permute(0, 2, 3, 1).flatten(2))[0]
        hidden = x.shape[-1] // 2
        return self.linear(self.dropout(torch.cat([x[:, -1, :hidden], x[:, 0, hidden:]], 1)))
