"""Made videos say truly who is where: the faces without heads."""

from __future__ import annotations

import numpy as np
import pytest

from testkit.crowd import CROP, FPS, HEIGHT, WIDTH, _draw, _seen_box, headless
from testkit.faces import CHOOSE, SHARED


@pytest.mark.skipif(not (SHARED / "data" / "utkface").exists(), reason="the labeled faces are not there")
def test_faces_without_heads_are_bare_crops_where_the_truth_says() -> None:
    film = headless(np.random.default_rng(3), CHOOSE)
    assert [shot.frames for shot in film.shots] == [10 * FPS, 30 * FPS]
    people = [actor.person for shot in film.shots for actor in shot.actors]
    assert people == list(range(18)), "each in one shot"
    seen = set()
    for shot in film.shots:
        for frame in range(0, shot.frames, 25):
            owners = np.zeros((HEIGHT, WIDTH), np.uint8)
            picture, outlines = _draw(shot, frame, film.exposure, owners)
            for person, outline in outlines.items():
                box = _seen_box(outline, owners, person + 1)
                if box is None:
                    continue
                seen.add(person)
                x1, y1, x2, y2 = (round(edge) for edge in box)
                own = owners[y1:y2, x1:x2] == person + 1
                assert own.mean() > 0.3
                actor = next(one for one in shot.actors if one.person == person)
                assert actor.path[frame, 3] == 0 and actor.look.body is None
                assert x2 - x1 <= CROP * actor.path[frame, 2] + 1
                # What the box shows is the labeled crop, and around it is nothing but the plain ground.
                if own.all():
                    assert picture[y1:y2, x1:x2].std() > 8
    assert seen == set(range(18))
