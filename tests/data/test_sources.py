"""Settings to photos."""

from dataclasses import replace

from waldo_utils.data.sources import open_source
from waldo_utils.study import DataStage, RenderedSet

DRAWN = RenderedSet(seed=5, families=4, family_size=2, photos=2, size=32)


def test_a_set_of_changed_settings_is_rendered_anew_in_the_study_s_own_folder(tmp_path, capsys):
    data = DataStage(source="rendered", rendered=DRAWN, hold_out=0.5)
    first, root = open_source(data, tmp_path)
    times = {path: (root / path).stat().st_mtime_ns for path in first.path}
    again, _ = open_source(data, tmp_path)
    assert again.equals(first)
    assert all((root / path).stat().st_mtime_ns == time for path, time in times.items())
    assert capsys.readouterr().out == ""

    other, _ = open_source(replace(data, rendered=replace(DRAWN, photos=3)), tmp_path)
    assert len(other) == len(first) * 3 // 2
    assert "holds photos of other settings: rendering it anew" in capsys.readouterr().out
