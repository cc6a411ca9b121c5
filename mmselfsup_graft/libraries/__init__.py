"""The OpenMMLab libraries below this toolbox: imported without warnings, their file readers made safe."""
