"""What several figures share: grids of pictures, curves, the axis of layers."""
