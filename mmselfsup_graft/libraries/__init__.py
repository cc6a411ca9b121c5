"""The OpenMMLab libraries below this toolbox: imported quietly, their readers of files made safe."""
