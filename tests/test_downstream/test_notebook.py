"""The notebook that converts an encoder and trains a detector from it runs, with fewer images and epochs."""

from notebooks import ROOT, execute


def test_convert_and_detect(tmp_path):
    path = ROOT / 'examples' / 'notebooks' / 'convert_and_detect.ipynb'
    names = execute(path, IMAGES=32, EPOCHS=1, DETECTOR_EPOCHS=1, WORK=str(tmp_path))
    assert names['difference'] < 1e-5
    assert names['converted'].path.is_file()
    assert len(names['found']) == 6
    assert all(each.bboxes.shape[1] == 4 for each in names['found'])
