"""One step of a method conditioned on attributes by separate, straightforward backward passes."""

import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from lightning_zoo import ACVAEGAN, ConditionalCRVAEGAN, ConditionalGAN, ConditionalVAEGAN

N = 5
NAMES = tuple(f"attribute_{number}" for number in range(N))
SMALL = {"attribute_names": NAMES, "base_channels": 2, "latent_channels": 8, "dropout": 0.0, "accuracy_limit": 1.0}
RECURRENT = {"hidden_size": 6, "num_layers": 1}
LINEAR = (ConditionalVAEGAN, ConditionalGAN)
AUTOENCODERS = (ACVAEGAN, ConditionalCRVAEGAN, ConditionalVAEGAN)

images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1
attributes = torch.randint(0, 2, (12, N), generator=torch.Generator().manual_seed(6)) * 2.0 - 1


def make(cls=ACVAEGAN, **changes):
    torch.manual_seed(0)
    return cls(**(SMALL | ({} if cls in LINEAR else RECURRENT) | changes)).train()


class Step:
    """One slow step: every loss by a forward pass of its own, every gradient added where thesis and code want it."""

    def __init__(self, module):
        torch.manual_seed(1)
        self.module = module
        self.names = {parameter: name for name, parameter in module.named_parameters()}
        self.gradients = {}

    def add(self, loss, parameters, weight=1.0):
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                name = self.names[parameter]
                self.gradients[name] = self.gradients.get(name, 0) + weight * gradient

    def steps(self):
        attention = self.module.autoencoder.attention
        if isinstance(self.module, ACVAEGAN):
            mask = torch.exp(attention.scores) / torch.exp(attention.scores).sum(0, keepdim=True)
            return attributes[:, None] * mask, mask
        return attributes[:, None].repeat(1, self.module.num_steps, 1), None

    def autoencoding(self):
        """The two generated batches, and the gradients of the lower bound and the attention's regularisers."""
        module, network = self.module, self.module.autoencoder
        steps, mask = self.steps()
        mean, log_variance = network.posterior(network.encoder(images), steps)
        latent = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        prior_mean, prior_log_variance = network.prior_network(steps)
        scale = torch.exp(prior_log_variance / 2)
        drawn = prior_mean + scale * torch.randn_like(prior_mean)
        if not module.hparams.adversarial_prior:
            drawn = drawn.detach()
        divergence = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(prior_mean, scale))
        channels = divergence.shape[1] // module.num_steps
        passes = self.generate(latent, drawn)
        loss = (passes[0][0] - images).square().mean()
        for step, weight in enumerate(module.kl_weights):
            loss = loss + weight * divergence[:, step * channels : (step + 1) * channels].sum() / len(images)
        if mask is not None:
            entropy = -sum((mask[:, n] * mask[:, n].log()).sum() for n in range(N)) / N
            balance = sum((mask[t].sum() - N / len(mask)) ** 2 for t in range(len(mask))) / len(mask)
            loss = loss + module.hparams.entropy_weight * entropy + module.hparams.balance_weight * balance
        self.add(loss, list(network.parameters()))
        return passes

    def generate(self, *latents):
        """Images and u of each."""
        network = self.module.autoencoder
        if not self.module.hparams.shared_statistics:
            return [network.generate(each, attributes) for each in latents]
        both = network.generate(torch.cat(latents), torch.cat([attributes, attributes]))
        return list(zip(*(each.split(len(images)) for each in both), strict=True))

    def deceive(self, logits):
        """What a generator pays."""
        hinge = self.module.hparams.adversarial_loss == "hinge"
        return (-logits if hinge else -torch.log(torch.sigmoid(logits))).mean()

    def adversary(self, passes):
        """What the generator's side feels, and q_psi's own loss."""
        module = self.module
        judge, own = module.discriminator, list(module.autoencoder.parameters())
        for (image, u), weights in zip(passes, module.sample_weights, strict=True):
            logits = judge(image, attributes)
            self.add(self.deceive(logits), own, weights.adversarial)
            if module.recover is not None:
                recovered = module.recover(judge.join(judge.trunk(image), attributes))
                blocks = torch.tensor(weights.blocks).repeat_interleave(u.shape[1] // len(weights.blocks))
                loss = (blocks[:, None, None] * (recovered - u.detach()).square()).mean()
                self.add(loss, own, weights.mutual_information)
                trained = [*module.recover.parameters(), *judge.trunk.parameters(), *judge.join.parameters()]
                self.add(loss, trained)

    def judge(self, passes, pattern, *, opened=True, gated="discriminator"):
        """The discriminator's loss on rows that are real, mismatched (m), reconstructed (r) or sampled (s) in turn.

        Returns:
            Of each row the logit, and whether it is real and is mismatched.
        """
        shift = int(torch.randint(1, len(images), ()))
        kinds = [pattern[index % len(pattern)] for index in range(len(images))]
        mixture = []
        for index, kind in enumerate(kinds):
            other = (index + shift) % len(images)
            chosen = {"x": images[index], "m": images[other]}
            chosen |= {"r": passes[0][0][index].detach(), "s": passes[-1][0][index].detach()}
            mixture.append(chosen[kind])
        discriminator = self.module.discriminator
        logits = discriminator(torch.stack(mixture), attributes)
        real, mismatched = (torch.tensor([kind == which for kind in kinds]) for which in "xm")
        if self.module.hparams.adversarial_loss == "hinge":
            loss = torch.where(real, 1 - logits, 1 + logits).clamp_min(0).mean()
        else:
            loss = F.binary_cross_entropy_with_logits(logits, real.float())
        trained = [*discriminator.parameters()]
        if not opened:
            trained = [*discriminator.trunk.parameters(), *discriminator.join.parameters()]
        if opened or gated == "head":
            self.add(loss, trained)
        if opened and self.module.hparams.gradient_penalty:
            self.add(self.penalty(real), trained)
        return logits.detach(), real, mismatched

    def penalty(self, real):
        """R1: of the real rows beside their own attributes."""
        shown = images[real].requires_grad_()
        logits = self.module.discriminator(shown, attributes[real])
        slopes = torch.autograd.grad(logits.sum(), shown, create_graph=True)[0]
        return self.module.hparams.gradient_penalty / 2 * slopes.square().flatten(1).sum(1).mean()


def slow(module, pattern, **gate):
    step = Step(module)
    passes = step.autoencoding()
    step.adversary(passes)
    step.judge(passes, pattern, **gate)
    return step.gradients


THIRDS, QUARTERS = "xrmxsm", "xmsr"
"""What the rows of the discriminator's batch are in turn, as `Step.judge` reads it."""
