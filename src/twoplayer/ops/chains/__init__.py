"""Networks as chains of layers that know their adjoint and tangent: exact slope penalties in one way down."""
