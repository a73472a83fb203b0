# SPDX-License-Identifier: Apache-2.0
"""Writes the labelled sentence pairs that the demo encoder's accuracy is measured on.

    python make_demo_pairs.py --out apps/octet/demo_encoder/pairs.tsv

A scene has sentences that say the same thing in other words (=) and near misses (!): sentences that share words with
them but change who did it, what was done, to what, how many, or whether at all. Every pair of the first kind is
labelled 1; each near miss is paired with one of its scene's sentences and labelled 0. `{a}` is a man and `{b}` a woman,
named once a scene.
"""

import argparse
import itertools
import random
from pathlib import Path

MEN = ["Ben", "Tom", "Mark", "Peter", "Jack", "Sam"]
WOMEN = ["Anna", "Lucy", "Sara", "Emma", "Maria", "Kate"]

SCENES = """
= The cat is sleeping on the sofa.
= A cat has fallen asleep on the couch.
= The cat takes a nap on the sofa.
! The cat is hiding under the sofa.
! The dog is barking at the cat.
! The boy is jumping on the sofa.

= {a} bought a new car last week.
= Last week {a} got a new car.
= {a} purchased a new automobile a week ago.
! {a} sold the old car last week.
! {a} washed the car last week.
! {b} rented a new apartment last week.

= It is raining very hard outside.
= There is heavy rain outside.
= Outside it is pouring.
! It is very hot outside.
! It is snowing a little outside.
! The children are playing outside.

= The film was boring.
= The movie was very dull.
= I found the movie boring.
! The film was exciting.
! The book was better than the film.
! The film was sold out.

= {a} is afraid of spiders.
= Spiders scare {a}.
= {a} has a fear of spiders.
! {a} keeps spiders as pets.
! {a} is afraid of flying.
! {b} drew a picture of a spider.

= The train arrived twenty minutes late.
= The train was twenty minutes late.
= The train came in with a delay of twenty minutes.
! The train arrived on time.
! The train ride takes twenty minutes.
! The bus leaves in twenty minutes.

= She plays the piano every evening.
= Every evening she plays on her piano.
= She practices piano each night.
! She sells pianos in the evening.
! She plays football every evening.
! She listens to the radio every evening.

= The boy broke the window with a ball.
= The window was broken by the boy's ball.
= A boy threw a ball and smashed the window.
! The boy cleaned the window with a cloth.
! The boy lost his ball in the garden.
! The girl looked out of the window at the boy.

= Where can I buy a ticket?
= Where are tickets sold?
= Where do I get a ticket?
! How much does a ticket cost?
! I have lost my ticket.
! When does the ticket office close?

= The soup is too salty.
= There is too much salt in the soup.
= They put too much salt in this soup.
! The soup is too cold.
! There is no soup left.
! The soup needs more salt.

= {a} is taller than {b}.
= {b} is shorter than {a}.
= {b} is not as tall as {a}.
! {a} is younger than {b}.
! {a} is a friend of {b}.
! {b} runs faster than {a}.

= My phone does not work any more.
= My phone is broken.
= My telephone has stopped working.
! My phone is ringing.
! I left my phone at work.
! I bought a phone for my mother.

= The shop opens at nine in the morning.
= The store opens at nine o'clock in the morning.
= At nine in the morning the shop opens.
! The shop closes at nine in the evening.
! The shop sells fresh bread in the morning.
! We walked past the shop in the morning.

= {a} wants to become a doctor.
= {a} would like to be a doctor.
= {a}'s dream is to be a physician.
! {a} has to see a doctor.
! {a} wants to become a pilot.
! The doctor called {a} yesterday.

= The old man is feeding the birds.
= An elderly man gives food to the birds.
= The birds are being fed by an old man.
! The old man is chasing the birds away.
! The old man is eating alone.
! The birds are flying over the old house.

= I forgot my keys at home.
= I left my keys at home.
= My keys are still at home because I forgot them.
! I found my keys in the car.
! I want to go home now.
! I forgot your name.

= The children are happy about the snow.
= The kids are glad that it snowed.
= The snow makes the children happy.
! The children are tired of the rain.
! The children are late for school.
! The snow blocked the road.

= {a} gave {b} a book for her birthday.
= For her birthday {b} got a book from {a}.
= {b} received a book from {a} as a birthday present.
! {a} wrote a book about {b}.
! {a} forgot the birthday of {b}.
! {b} gave the book back to the library.

= Smoking is not allowed here.
= You must not smoke here.
= It is forbidden to smoke in this place.
! You can park here.
! He stopped smoking last year.
! There is smoke coming from the kitchen.

= We lost the game by one point.
= We were beaten by a single point.
= The other team beat us by one point.
! We won the game by one point.
! We lost our bags at the game.
! The game was cancelled.

= He drinks a lot of coffee.
= He drinks much coffee.
= Coffee is something he drinks a great deal of.
! He never drinks coffee.
! He spilled coffee on the table.
! He drinks a glass of milk.

= The hotel was clean and quiet.
= It was a quiet and clean hotel.
= The hotel was tidy and there was no noise.
! The hotel was dirty and loud.
! The hotel was far from the beach.
! The street in front of the house was quiet.

= Can you help me carry this box?
= Could you give me a hand with this box?
= Please help me to carry the box.
! Can you tell me what is in this box?
! Can I help you find something?
! Please throw away this box.

= The baby started to cry.
= The baby began crying.
= The infant burst into tears.
! The baby started to walk.
! The baby stopped crying.
! The mother carried the baby.

= Prices have gone up a lot this year.
= This year everything got much more expensive.
= Prices rose strongly this year.
! Prices have fallen this year.
! A student won the first prize this year.
! We went up the mountain this year.

= {a} is married to {b}.
= {a} and {b} are husband and wife.
= {b} is the wife of {a}.
! {a} is angry with {b}.
! {a} and {b} work in the same office.
! {b} is the sister of {a}.

= The teacher explained the problem again.
= Once more the teacher explained the problem.
= The teacher went over the problem another time.
! The teacher forgot the problem.
! The teacher is ill again.
! The student solved the problem.

= The bridge is closed because of the storm.
= Because of the storm nobody can use the bridge.
= The storm is the reason why the bridge is shut.
! The bridge was built before the storm.
! The school is open despite the storm.
! We watched the storm from the bridge.

= I am looking for a cheap apartment.
= I am searching for an apartment that does not cost much.
= I want to find an apartment with a low rent.
! I am selling my apartment.
! I am looking for my glasses.
! I live in a large and expensive apartment.

= There are six eggs in the basket.
= The basket has six eggs in it.
= Six eggs are in the basket.
! There are two apples in the basket.
! The basket is empty.
! She dropped the basket and broke the eggs.

= {a} speaks three languages.
= {a} can speak three different languages.
= {a} knows three languages.
! {a} has three brothers.
! {a} speaks very quietly.
! {b} teaches languages at a school.

= The meeting was moved to Friday.
= The meeting will now be on Friday.
= They changed the date of the meeting to Friday.
! The meeting was a waste of time.
! The meeting was cancelled.
! We are moving to a new house on Friday.

= The girl is brushing her hair.
= A girl is combing her hair.
= The girl uses a brush on her hair.
! The girl is cutting the paper.
! The girl is brushing her teeth.
! The girl has long hair.

= He was fired because he came late.
= He lost his job because he was late.
= Being late cost him his job.
! He was late because of the traffic.
! He found a job late in life.
! There was a fire at his work.

= The water is cold.
= The water is not warm.
= This is cold water.
! The water is boiling.
! The water is dirty.
! I have a cold.

= My grandmother bakes delicious bread.
= The bread that my grandma makes tastes great.
= My grandma bakes very good bread.
! My grandmother cannot eat bread.
! My grandmother lives above a bakery.
! My brother burned the bread.

= The plane landed safely.
= The airplane made a safe landing.
= The plane came down without any trouble.
! The plane crashed into the sea.
! The plane was full of tourists.
! The keys are in the safe.

= I do not like this song.
= I dislike this song.
= This song is not to my taste.
! I love this song.
! I do not know who wrote this song.
! I would like to sing.

= The thief ran away from the police.
= The robber escaped from the police.
= The police could not catch the thief.
! The police arrested the thief.
! The thief stole a police car.
! The runner won the race.

= {a} painted the kitchen blue.
= {a} gave the kitchen a blue paint.
= The kitchen was painted blue by {a}.
! {a} cooked in the blue kitchen.
! {a} painted a picture of the sea.
! {a} cleaned the kitchen.

= The river is very deep here.
= Here the river is very deep.
= At this place the water of the river is deep.
! The river is dry here.
! We swam across the river.
! Very few people live near the river.

= Do you have any brothers or sisters?
= Do you have siblings?
= Have you got a brother or a sister?
! Do you know my brother?
! Do you have any money?
! My sister has two sons.

= The farmer has more cows than sheep.
= The farmer has fewer sheep than cows.
= On the farm there are more cows than sheep.
! The farmer sold all his cows.
! The farmer is milking a cow.
! The dog is watching the sheep.

= I will call you tomorrow.
= Tomorrow I will phone you.
= I am going to give you a call tomorrow.
! I called you yesterday.
! I will visit you tomorrow.
! They call him the king of the road.

= The lamp on the desk is on.
= The desk lamp is switched on.
= The light on the desk is burning.
! The lamp on the desk is broken.
! The book is on the desk.
! She put a desk beside the lamp.

= Her brother is a famous actor.
= Her brother is a well known actor.
= The actor who is her brother is famous.
! Her brother hates the theater.
! Her brother is a poor farmer.
! She met a famous actor.

= It took us two hours to get there.
= We needed two hours to get there.
= The trip there took two hours.
! We stayed there for two weeks.
! There were two of us.
! We got there by bike.

= The wind blew his hat off.
= His hat was blown away by the wind.
= The wind took his hat from his head.
! He bought a hat against the sun.
! The wind was strong at sea.
! He took off his hat to greet her.

= {a} lent {b} some money.
= {b} borrowed money from {a}.
= {a} gave {b} money as a loan.
! {a} stole money from {b}.
! {a} asked {b} for the way.
! {b} spent some money on shoes.

= Nobody came to the party.
= No one showed up at the party.
= There were no guests at the party.
! Everybody danced at the party.
! The party was in the garden.
! Nobody knew the answer.

= The horse jumped over the fence.
= The horse leaped over the fence.
= With one jump the horse was over the fence.
! The horse is eating grass by the fence.
! They painted the fence white.
! A man fell off his horse.

= This bag is too heavy for me.
= I cannot lift this bag because it weighs too much.
= The weight of this bag is too much for me.
! This bag is too small for me.
! Someone stole my bag.
! This bag is very light.

= She could not sleep because of the noise.
= The noise kept her awake.
= It was so loud that she could not sleep.
! She slept until noon.
! She made a lot of noise in the kitchen.
! She could not hear him.

= The museum is free on Sundays.
= On Sundays you do not pay at the museum.
= You can visit the museum without paying on Sundays.
! The museum is closed on Sundays.
! We met in front of the museum on Sunday.
! He is free on Sunday evening.

= You should drink more water.
= It would be good if you drank more water.
= You need to drink more water.
! You should water the plants.
! You should drink less wine.
! There is water on the floor.

= The company made a big profit.
= The company earned a lot of money.
= The firm made big profits.
! The company lost a lot of money.
! The company has a new boss.
! He enjoys the company of big dogs.

= The boy is scared of the dark.
= The boy fears the dark.
= Darkness frightens the boy.
! The boy has dark hair.
! The boy is playing in the dark.
! The boy is looking for a lamp.

= I have already eaten.
= I already had something to eat.
= I have had my meal already.
! I am very hungry.
! I have already seen this film.
! I have to cook today.

= {a} passed the exam.
= {a} was successful in the test.
= {a} did well enough in the exam to pass.
! {a} failed the exam.
! {a} is writing an exam on Monday.
! {a} passed the house of {b}.

= The garden is full of flowers.
= There are flowers everywhere in the garden.
= Many flowers grow in the garden.
! There is a swing in the garden.
! The garden is full of stones.
! She bought flowers for her mother.
"""


def read_scenes(text):
    """(sentences after "=", sentences after "!") of each block."""
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        yield tuple([line[2:] for line in lines if line[0] == mark] for mark in "=!")


def pairs_of(scene, draw):
    same, other = scene
    names = {"a": draw.choice(MEN), "b": draw.choice(WOMEN)}
    same, other = ([text.format(**names) for text in texts] for texts in (same, other))
    pairs = [(1, *draw.sample(pair, 2)) for pair in itertools.combinations(same, 2)]
    pairs += [(0, *draw.sample([miss, draw.choice(same)], 2)) for miss in other]
    return pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="tsv file to write")
    options = parser.parse_args()
    draw = random.Random(1)
    pairs = [pair for scene in read_scenes(SCENES) for pair in pairs_of(scene, draw)]
    draw.shuffle(pairs)
    lines = ["label\tsentence1\tsentence2"] + [f"{label}\t{one}\t{two}" for label, one, two in pairs]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(pairs)} pairs, {sum(label for label, _, _ in pairs)} of them with the same meaning")


if __name__ == "__main__":
    main()
