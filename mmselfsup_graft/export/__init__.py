"""Export to other libraries: conversion, verification, publishing."""
