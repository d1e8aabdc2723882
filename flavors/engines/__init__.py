"""Engines, a module each. They import only `connector.interfaces`, `connector.audio` and `connector.errors`.

A module's top level must load without the engine's packages: it holds the options model and the
`EngineDescriptor`; the packages are imported by the descriptor's `load`.
"""
