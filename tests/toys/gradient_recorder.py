"""What a step of a method with two optimizers gives them."""

import torch


class Recorder:
    """An optimizer that changes nothing and adds up the gradients it is given."""

    def __init__(self, module):
        self.names = {parameter: name for name, parameter in module.named_parameters()}
        self.param_groups = [{"params": list(self.names), "lr": 1.0, "warms_up": True}]
        self.gradients = {}
        self.steps = 0

    def step(self):
        self.steps += 1
        for parameter, name in self.names.items():
            if parameter.grad is not None:
                self.gradients[name] = self.gradients.get(name, 0) + parameter.grad.clone()

    def zero_grad(self):
        for parameter in self.names:
            parameter.grad = None


def recorded(step, module, images, *condition):
    """The gradients by name that a step gives both optimizers, its metrics, how often it stepped them; seeded."""
    torch.manual_seed(1)
    generator, judge = Recorder(module), Recorder(module)
    metrics = step(module, images, generator, judge, *condition)
    assert not set(generator.gradients) & set(judge.gradients)
    return generator.gradients | judge.gradients, metrics, (generator.steps, judge.steps)


def assert_same_gradients(ours, theirs, rounding=2e-6):
    """Both are gradients by name."""
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        # The gradient of a bias before batch normalisation is nothing but rounding.
        tolerance = 2e-4 * gradient.abs().max().item() + rounding
        torch.testing.assert_close(ours[name], gradient, atol=tolerance, rtol=0, msg=name)
