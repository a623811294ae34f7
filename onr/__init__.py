"""The operator-norm view of adversarial robustness.

Notation, used by every module of the project
---------------------------------------------
==========  ==================================================================================
``x``       inputs, shape ``(batch, *input_shape)``; images are ``(batch, C, H, W)``, pixels in
            [0, 1]; ``n`` is the number of coordinates of one input
``f``       the network's logits, ``f(x)`` of shape ``(batch, d)``; ``d`` is the number of classes
``y``       labels, shape ``(batch,)``, integers in ``[0, d)``
``J``       the Jacobian of ``f`` at ``x``, one ``d x n`` matrix an example (Eq. 2)
``v``       an input-space direction, shaped as ``x``; ``J v`` is a *jvp* (the forward pass)
``u``       a logit-space direction, shaped as ``f(x)``; ``J^T u`` is a *vjp* (the backward pass)
``p``       the norm of the domain (inputs); ``p*`` is its dual
``q``       the norm of the co-domain (logits); both are always passed by keyword
``eps``     the radius of the p-ball that an attack may use, in the units of ``x``
``alpha``   the step size of an iteration; ``inf`` is the power-method limit
``delta``   a perturbation, ``x* - x``
==========  ==================================================================================

The leading axis of every array is the batch and every result is per example: nothing is ever
averaged or compared across a batch. Equations, lemmas and sections are those of Roth, Kilcher and
Hofmann, "Adversarial Training is a Form of Data-dependent Operator Norm Regularization",
NeurIPS 2020.
"""

__version__ = "0.1.0"
