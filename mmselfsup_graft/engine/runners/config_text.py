"""The text of a config, which mmengine writes to the log, into a file and into every checkpoint."""

from mmengine.config import Config


class FormattedOnce(Config):
    """A config whose text is formatted again only if its content has changed.

    Formatting takes 0.1 s, mmengine asks for it four times before the first iteration and once per checkpoint: most of
    the time of a small run.
    """

    @classmethod
    def of(cls, cfg: Config) -> 'FormattedOnce':
        """The same config, not a copy, of this class."""
        other = cls.__new__(cls)
        other.__dict__.update(cfg.__dict__)  # an attribute that is set would become a key of the config
        return other

    @property
    def pretty_text(self) -> str:
        """The content as text of a config file."""
        content = repr(self._cfg_dict)
        known = self.__dict__.get('_formatted')
        if known is None or known[0] != content:
            known = self.__dict__['_formatted'] = (content, super().pretty_text)
        return known[1]
