"""Colossus and Medivac in battles small enough to work out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from smax_battles import available, enemy_actions, place, skirmish, step

from seca_jax.envs.smax import observation, physics
from seca_jax.envs.smax.battle import NUM_MOVES, STOP, make_battle
from seca_jax.envs.smax.scenarios import SCENARIOS, Ridge
from seca_jax.envs.smax.units import COLOSSUS, MARAUDER, MARINE, MEDIVAC, STALKER, ZEALOT, ZERGLING


def _health(state):
    return np.asarray(state.health)[:, 0]


# --- splash -------------------------------------------------------------------------------------


def test_the_beam_burns_across_the_line_of_fire():
    """Fire goes east at (16, 16). Half-length 1.4 across, 0.15 along, plus the victim's radius 0.375.

    1.7 north is within 1.775; 1.8 north is not; 0.5 further east is within 0.525; 0.6 is not; the corner
    (0.4 east, 1.7 north) is 0.25, 0.3 beyond the bar, 0.39 in all: missed.
    """
    battle = skirmish((COLOSSUS,), (ZERGLING,) * 6)
    spots = [(10, 16), (16, 16), (16, 17.7), (16, 14.2), (16.5, 16), (16.6, 16), (16.4, 17.7)]
    state = place(battle, spots)
    body = physics.Body(state.x, state.y, state.health, state.cooldown, None)
    enemies = physics.Body(*(None if plane is None else plane[1:] for plane in body))
    origin, at = (state.x[0], state.y[0]), (state.x[1], state.y[1])
    struck = physics._line(origin, at, enemies, np.full((6, 1), 0.375), np.ones((6, 1), bool))
    np.testing.assert_array_equal(struck[:, 0], [True, True, False, True, False, False])


def test_splash_hurts_living_ground_enemies_only_and_kills_a_zergling_in_two_volleys():
    battle = skirmish((COLOSSUS, MARINE), (MARINE, MARINE, MEDIVAC))
    spots = [(10.0, 16.0), (16.0, 16.6), (16.0, 16.0), (16.0, 17.0), (16.0, 15.0)]
    state, _ = step(battle, place(battle, spots), NUM_MOVES, STOP)
    health = _health(state)
    assert health[2] <= 45 - 20 and health[3] <= 45 - 20, "target and neighbour"
    assert health[4] == 150, "the Medivac flies"
    battle = skirmish((COLOSSUS,), (ZERGLING,))
    state = place(battle, [(10.0, 16.0), (16.0, 16.0)])
    for expected in (15.0, 15.0, 0.0):  # 1.07 s between volleys: the second comes in the third step
        state, _ = step(battle, state.replace(x=state.x.at[1].set(16.0)), NUM_MOVES)
        assert _health(state)[1] == expected


def test_a_dying_zergling_takes_its_share_and_the_beam_does_not_touch_allies():
    battle = skirmish((COLOSSUS, ZEALOT), (MARAUDER,))
    state = place(battle, [(10.0, 16.0), (16.0, 15.0), (16.0, 16.0)])
    state, _ = step(battle, state, NUM_MOVES, STOP)
    assert _health(state)[1] == 150 - 10, "hit by the Marauder, not by the Colossus"
    assert _health(state)[2] == 125 - 20


# --- air and ground -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shooter", "reaches"),
    [(unit, unit in (MARINE, STALKER)) for unit in (MARINE, STALKER, MARAUDER, ZEALOT, ZERGLING, COLOSSUS)],
)
def test_who_reaches_the_air(shooter, reaches):
    battle = skirmish((shooter, MARINE), (MEDIVAC, MARINE))
    state = place(battle, [(10.0, 16.0), (2.0, 2.0), (11.5, 16.0), (30.0, 30.0)])
    avail = available(battle, state)[0]
    assert avail[NUM_MOVES] == reaches
    state, _ = step(battle, state, NUM_MOVES, STOP)
    assert (_health(state)[2] < 150) == reaches, "an illegal attack does nothing"


@pytest.mark.parametrize("shooter", [MARAUDER, ZEALOT, ZERGLING])
def test_the_opponent_neither_shoots_nor_chases_what_it_cannot_hit(shooter):
    battle = skirmish((MEDIVAC, MARINE), (shooter,))
    state = place(battle, [(15.0, 16.0), (16.0, 24.0), (16.0, 16.0)])
    assert enemy_actions(battle, state)[0] == 0, "north, towards the marine"
    state = state.replace(y=state.y.at[1].set(17.5))
    assert enemy_actions(battle, state)[0] == NUM_MOVES + 0, "slot 0 is the last ally, the marine"


def test_the_opponent_shoots_at_a_medivac_when_it_can():
    battle = skirmish((MEDIVAC, MARINE), (STALKER,))
    state = place(battle, [(15.0, 16.0), (2.0, 2.0), (16.0, 16.0)])
    state, _ = step(battle, state, STOP, STOP)
    assert _health(state)[0] == 150 - 13


def test_air_and_ground_do_not_push_each_other():
    battle = skirmish((MEDIVAC, MARINE), (MARINE,))
    state = place(battle, [(10.0, 16.0), (10.1, 16.0), (30.0, 30.0)])
    state, _ = step(battle, state, STOP, STOP)
    np.testing.assert_allclose(np.asarray(state.x)[:2, 0], [10.0, 10.1])


# --- healing ------------------------------------------------------------------------------------

HEALERS = skirmish((MARINE, MEDIVAC, MARAUDER, MARINE), (MARINE,))
SPOTS = [(10.0, 16.0), (10.0, 17.0), (10.0, 18.0), (10.0, 26.0), (30.0, 2.0)]


def test_healing_masks_follow_the_observation_slots():
    """The healer is ally 1: its slots 0, 1, 2 are allies 0, 2, 3. Ally 3 is too far away."""
    state = place(HEALERS, SPOTS, health=[40.0, 100.0, 125.0, 20.0, 45.0])
    avail = available(HEALERS, state)
    assert avail.shape == (4, NUM_MOVES + 3), "three friends outnumber one enemy"
    np.testing.assert_array_equal(avail[1, NUM_MOVES:], [True, False, False])  # 2 is well, 3 is far
    assert not avail[0, NUM_MOVES:].any() and avail[:, :NUM_MOVES].all()
    dead = place(HEALERS, SPOTS, health=[0.0, 100.0, 100.0, 20.0, 45.0])
    np.testing.assert_array_equal(available(HEALERS, dead)[1, NUM_MOVES:], [False, True, False])
    two = skirmish((MEDIVAC, MEDIVAC), (MARINE,))
    hurt = place(two, [(10, 16), (10, 17), (30, 2)], health=[50.0, 50.0, 45.0])
    assert not available(two, hurt)[:, NUM_MOVES:].any(), "healers heal no healers"


@pytest.mark.parametrize(("slot", "friend"), [(0, 0), (1, 2)])
def test_one_beat_a_step_goes_to_the_friend_of_the_slot(slot, friend):
    state = place(HEALERS, SPOTS, health=[10.0, 100.0, 10.0, 10.0, 45.0])
    before = _health(state)
    for beats in range(1, 4):
        state, _ = step(HEALERS, state, STOP, NUM_MOVES + slot, STOP, STOP)
        gained = np.zeros(5)
        gained[friend] = 6.3 * beats
        np.testing.assert_allclose(_health(state) - before, gained, atol=1e-4)
        energy = 50 - 2.1 * beats + 0.7875 * 0.5 * beats
        np.testing.assert_allclose(state.energy[1, 0], energy, atol=1e-4)


def test_healing_stops_at_full_health_and_at_the_grave():
    state = place(HEALERS, SPOTS, health=[43.0, 100.0, 0.0, 45.0, 45.0])
    state, _ = step(HEALERS, state, STOP, NUM_MOVES, STOP, STOP)
    assert _health(state)[0] == 45
    np.testing.assert_allclose(state.energy[1, 0], 50 - 2 / 3 + 0.7875 * 0.5, atol=1e-4)
    state, _ = step(HEALERS, state, STOP, NUM_MOVES + 1, STOP, STOP)
    assert _health(state)[2] == 0


def test_healing_needs_five_energy_to_begin_and_regenerates_up_to_200():
    planes = dict(health=[10.0, 100.0, 125.0, 45.0, 45.0], cooldown=[0.0, -0.1, 0.0, 0.0, 0.0])
    state = place(HEALERS, SPOTS, energy=[0.0, 4.0, 0.0, 0.0, 0.0], **planes)
    state, _ = step(HEALERS, state, STOP, NUM_MOVES, STOP, STOP)
    assert _health(state)[0] == 10
    np.testing.assert_allclose(state.energy[1, 0], 4 + 0.7875 * 0.5, atol=1e-5)
    state, _ = step(HEALERS, state.replace(energy=state.energy.at[1].set(199.9)), STOP, STOP, STOP, STOP)
    assert state.energy[1, 0] == 200


def test_energy_takes_the_place_of_the_cooldown():
    state = place(HEALERS, SPOTS, energy=[0.0, 80.0, 0.0, 0.0, 0.0])
    own = np.asarray(observation.unit_list(HEALERS, state))[0, 1, -12:]
    np.testing.assert_allclose(own[3], 80 / 200)
    world = np.asarray(observation.world_state(HEALERS, state, scaled=True))[0]
    np.testing.assert_allclose(world[12 + 3], 80 / 200)
    world = np.asarray(observation.world_state(HEALERS, state, scaled=False))[0]
    np.testing.assert_allclose(world[12 + 3], 80)


def test_healing_of_an_enemy_is_no_reward_and_no_loss():
    battle = skirmish((MARINE,), (MARINE, MARINE, MEDIVAC))
    spots = [(10.0, 16.0), (13.0, 16.0), (28.0, 28.0), (28.0, 29.0)]
    state = place(battle, spots, health=[45.0, 45.0, 20.0, 150.0])
    state, outcome = step(battle, state, NUM_MOVES)
    np.testing.assert_allclose(_health(state)[2], 26.3, atol=1e-4)
    np.testing.assert_allclose(outcome.reward, 9 / 45 / 3, atol=1e-5)


def test_the_opponents_medivac_picks_the_neediest_then_the_nearest():
    """Enemy slots of the last unit (5): friends 4, 3, 2. Shares: 4 well, 3 at 0.8, 2 at 0.4."""
    battle = skirmish((MARINE, MARINE), (MARAUDER, MARINE, MARINE, MEDIVAC))
    spots = [(2.0, 2.0), (2.0, 3.0), (20.0, 16.0), (22.0, 16.0), (20.0, 20.0), (20.0, 17.0)]
    hurt = place(battle, spots, health=[45.0, 45.0, 50.0, 36.0, 45.0, 150.0])
    assert enemy_actions(battle, hurt)[3] == NUM_MOVES + 2
    away = hurt.replace(y=hurt.y.at[2].set(7.0))
    assert enemy_actions(battle, away)[3] == 2, "south, up to it"
    unseen = hurt.replace(y=hurt.y.at[2].set(2.0))
    assert enemy_actions(battle, unseen)[3] == NUM_MOVES + 1
    well = place(battle, [*spots[:2], (20.0, 4.0), (28.0, 16.0), (20.0, 20.0), spots[5]])
    assert enemy_actions(battle, well)[3] == 0, "north, to the nearest"


@pytest.mark.parametrize("map_name", ["MMM2", "1c3s5z", "2c_vs_64zg"])
def test_every_action_of_both_sides_points_where_it_should(map_name):
    battle = make_battle(SCENARIOS[map_name], 100)
    num_allies, num_units = battle.num_allies, battle.num_units
    for unit in range(num_units):
        ally = unit < num_allies
        # What the unit observes, in order: allies see everybody upwards, enemies downwards.
        order = [other for other in range(num_units) if other != unit]
        order = order if ally else order[::-1]
        friends = [other for other in order if (other < num_allies) == ally]
        foes = [other for other in order if (other < num_allies) != ally]
        slots = friends if battle.heals[unit] else foes
        width = (battle.num_actions if ally else battle.num_enemy_actions) - NUM_MOVES
        actions = np.full((num_units, NUM_MOVES + width), STOP)
        actions[unit] = np.arange(NUM_MOVES + width)
        got = np.asarray(physics.targets(battle, jnp.asarray(actions, jnp.int32)))[unit]
        slots = [other if battle.heals[unit] or battle.may_hit[unit, other] else -1 for other in slots]
        np.testing.assert_array_equal(got, [-1] * NUM_MOVES + slots + [-1] * (width - len(slots)))
    if map_name == "MMM2":
        assert (battle.num_actions, battle.num_enemy_actions) == (17, 16)


# --- the end ------------------------------------------------------------------------------------


def test_healers_alone_have_lost():
    battle = skirmish((MARINE, MEDIVAC), (MARINE, MEDIVAC))
    spots = [(10.0, 16.0), (10.0, 20.0), (30.0, 2.0), (30.0, 4.0)]
    end = lambda health: step(battle, place(battle, spots, health=health), STOP, STOP)[1]  # noqa: E731
    assert not end([45.0, 150.0, 45.0, 150.0]).terminated[0]
    won = end([45.0, 150.0, 0.0, 150.0])
    assert won.terminated[0] and won.won[0]
    lost = end([0.0, 150.0, 45.0, 150.0])
    assert lost.terminated[0] and not lost.won[0]
    both = end([0.0, 150.0, 0.0, 150.0])
    assert both.terminated[0] and not both.won[0]


# --- the ridge ----------------------------------------------------------------------------------


def test_only_climbers_cross_the_ridge_and_the_others_take_the_ramp():
    battle = skirmish((COLOSSUS, ZEALOT), (ZERGLING,), ridge=Ridge(13.0, 15.0, 24.0, 28.0))
    state = place(battle, [(10.0, 12.0), (12.0, 12.0), (25.0, 30.0)], health=[1e6, 1e6, 1e6])
    for _ in range(4):
        state, _ = step(battle, state, 0, 0)
    y = np.asarray(state.y)[:, 0]
    assert y[0] > 15 and y[1] == 13.0
    state = place(battle, [(10.0, 20.0), (26.0, 12.5), (2.0, 30.0)], health=[1e6, 1e6, 1e6])
    state, _ = step(battle, state, STOP, 0)
    state, _ = step(battle, state, STOP, 3)
    state, _ = step(battle, state, STOP, 3)
    x, y = np.asarray(state.x)[:, 0], np.asarray(state.y)[:, 0]
    assert 13 < y[1] < 15 and x[1] == 24.0, "the ramp has sides"


def test_a_zergling_finds_the_way_round():
    battle = skirmish((COLOSSUS,), (ZERGLING,), ridge=Ridge(13.0, 15.0, 24.0, 28.0))
    state = place(battle, [(16.0, 16.5), (16.0, 10.0)], health=[1e6, 1e6])
    hit = False
    for _ in range(20):
        state, _ = step(battle, state, STOP)
        hit = hit or _health(state)[0] < 1e6
    assert hit
