"""The algorithms of a convolution's passes: direct, for a first layer, and Winograd's."""
