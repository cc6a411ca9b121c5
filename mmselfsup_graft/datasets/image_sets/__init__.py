"""Data sets of images: folders, lists, ImageNet, CIFAR, Fashion-MNIST, digits, photographs."""
