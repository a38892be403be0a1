"""Pictures of battles: what is drawn where, how large, and how fast."""

import time

import numpy as np
from PIL import Image

from seca_jax.envs.smax.frame import Frame
from seca_jax.envs.smax.scenarios import Ridge
from seca_jax.envs.smax.units import MARINE, MEDIVAC, STALKER, ZEALOT
from seca_jax.show import battle as drawing


def moment(x, y, *, allies, health=None, target=None, types=None, envs=1):
    units = len(x)
    health = np.ones(units) if health is None else np.array(health, float)
    columns = dict(
        x=np.array(x, np.float32),
        y=np.array(y, np.float32),
        health_fraction=health,
        alive=health > 0,
        unit_type=np.full(units, STALKER) if types is None else np.array(types),
        target=np.full(units, -1) if target is None else np.array(target),
        cooldown_fraction=np.zeros(units),
    )
    return Frame(**{k: np.stack([v] * envs) for k, v in columns.items()}, num_allies=allies)


def picture(frame, **options):
    battle = drawing.one_battle([frame])
    now = battle.replace(**{name: getattr(battle, name)[0] for name in COLUMNS})
    return np.asarray(drawing.Painter("map", battle.num_allies).draw(now, **options), int)


COLUMNS = ("x", "y", "health_fraction", "alive", "unit_type", "target", "cooldown_fraction")


def amount(image, colour):
    """Pixels of (nearly) one colour."""
    return int((np.abs(image - np.array(colour)).max(-1) < 12).sum())


def where(image, colour):
    rows, columns = np.nonzero(np.abs(image - np.array(colour)).max(-1) < 12)
    return columns.mean(), rows.mean()


BLUE, ORANGE, GREEN = (0, 114, 178), (213, 94, 0), (0, 158, 115)
LEGEND = 60  # rows of the header, which shows both teams' colours too


def test_units_stand_where_they_are_and_up_is_up():
    image = picture(moment([8, 24], [24, 8], allies=1))[LEGEND:]
    ally, enemy = where(image, BLUE), where(image, ORANGE)
    middle = image.shape[1] / 2
    assert ally[0] < middle < enemy[0]  # x to the right
    assert ally[1] < middle < enemy[1]  # y upwards, rows downwards


def test_a_medivac_does_not_hide_who_is_under_it():
    types = [MARINE, MEDIVAC, ZEALOT]
    under = picture(moment([8, 8, 24], [16, 16, 16], allies=2, types=types))
    alone = picture(moment([8, 8, 24], [16, 16, 16], allies=2, types=types, health=[0, 1, 1]))
    row, column = alone.shape[0] // 2 + 22, round(8 + 8 * (640 - 16) / 32)  # below the header of 52 pixels
    close = np.s_[row - 9 : row + 9, column - 9 : column + 9]  # the marine's disc, smaller than the Medivac
    assert (under[close] != alone[close]).any(-1).mean() > 0.1


def test_the_dead_are_faded():
    alive = picture(moment([8, 24], [16, 16], allies=1))[LEGEND:]
    dead = picture(moment([8, 24], [16, 16], allies=1, health=[1, 0]))[LEGEND:]
    assert amount(alive, ORANGE) > 100 and amount(dead, ORANGE) == 0
    assert amount(dead, BLUE) == amount(alive, BLUE)


def test_a_shot_is_a_line_and_healing_another():
    still = picture(moment([8, 12, 24], [16, 20, 16], allies=2))[LEGEND:]
    shot = picture(moment([8, 12, 24], [16, 20, 16], allies=2, target=[2, -1, -1]))[LEGEND:]
    heal = picture(moment([8, 12, 24], [16, 20, 16], allies=2, target=[1, -1, -1]))[LEGEND:]
    assert (shot != still).any(-1).sum() > 200
    assert amount(shot, GREEN) == 0 == amount(still, GREEN)
    assert amount(heal, GREEN) > 50


def test_a_ridge_is_a_band_with_a_gap_for_its_ramp():
    battle = drawing.one_battle([moment([8, 24], [4, 28], allies=1)])
    ridge = Ridge(south=14.0, north=16.0, ramp_west=20.0, ramp_east=24.0)
    image = np.asarray(drawing.Painter("map", 1, ridge=ridge).draw(drawing.moment(battle, 0)), int)
    rock = np.abs(image - np.array((214, 206, 192))).max(-1) < 3
    cell = (640 - 16) / 32
    shaded = np.flatnonzero(rock.any(0))
    gap = shaded[np.argmax(np.diff(shaded))], shaded[np.argmax(np.diff(shaded)) + 1]
    np.testing.assert_allclose((np.array(gap) - 8) / cell, (20, 24), atol=0.2)
    assert abs(rock.any(1).sum() / cell - 2) < 0.3


def test_health_bars_shrink():
    def dark(health):
        image = picture(moment([16], [16], allies=1, health=[health]))
        return amount(image[LEGEND + 20 : -20, 20:-20], (34, 34, 34))

    assert dark(1.0) > dark(0.5) > dark(0.1)


def test_badges_number_the_agents_in_the_order_of_credit():
    plain = moment([8, 24], [16, 16], allies=2)
    first = picture(plain, order=np.array([0, 1]))[LEGEND:]
    second = picture(plain, order=np.array([1, 0]))[LEGEND:]
    gold = (240, 200, 60)
    assert where(first, gold)[0] < first.shape[1] / 2 < where(second, gold)[0]


def test_a_still_is_close_to_the_living_and_has_no_words():
    battle = drawing.one_battle([moment([8, 24, 30], [16, 16, 2], allies=1, health=[1, 1, 0])] * 2)
    far = np.asarray(drawing.still(battle, 1, size=200), int)
    near = drawing.one_battle([moment([8, 10, 30], [16, 16, 2], allies=1, health=[1, 1, 0])])
    close = np.asarray(drawing.still(near, 0, order=np.array([0]), size=200, colours=[(1, 2, 3)]), int)
    assert far.shape == close.shape == (200, 200, 3)
    assert amount(close, ORANGE) > 2 * amount(far, ORANGE) > 50
    assert amount(close, (1, 2, 3)) > 50  # the badge, in the agent's colour
    assert amount(far, (255, 255, 255)) < 200  # no header: nothing is white but letters and outlines
    nobody = drawing.one_battle([moment([8, 24], [16, 16], allies=1, health=[0, 0])])
    assert drawing.still(nobody, 0, size=100).size == (100, 100)


def test_the_camera_holds_every_living_unit():
    frames = [moment([5, 20], [16, 18], allies=1), moment([9, 16], [16, 18], allies=1)]
    left, bottom, side = drawing.camera(drawing.one_battle(frames))
    assert left <= 5 and left + side >= 20 and bottom <= 16 and bottom + side >= 18
    assert 0 <= left and left + side <= 32 and 0 <= bottom and bottom + side <= 32


def test_one_battle_picks_an_environment():
    frames = [moment([t, 20], [16, 18], allies=1, envs=3) for t in range(4)]
    for t, frame in enumerate(frames):
        frame.x[2] += 100 * t
    np.testing.assert_allclose(drawing.one_battle(frames, env=2).x[:, 0], [0, 101, 202, 303])


def test_a_gif_of_a_hundred_steps_takes_less_than_ten_seconds(tmp_path):
    rng = np.random.default_rng(0)
    frames = [
        moment(
            16 + rng.normal(size=17) * 6,
            16 + rng.normal(size=17) * 6,
            allies=8,
            health=np.clip(rng.random(17) - t / 200, 0, 1),
            target=rng.integers(-1, 17, size=17),
            types=rng.choice([STALKER, ZEALOT], size=17),
        )
        for t in range(101)
    ]
    battle = drawing.one_battle(frames)
    start = time.process_time()
    images = drawing.pictures(
        battle, title="3s5z_vs_3s6z", returns=np.arange(101.0), order=np.arange(8), outcome="won", size=480
    )
    drawing.save_gif(tmp_path / "battle.gif", images)
    assert time.process_time() - start < 10
    gif = Image.open(tmp_path / "battle.gif")
    assert gif.n_frames > 100 and gif.size[0] == 480
    assert gif.info["loop"] == 0
