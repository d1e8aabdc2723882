"""English: when a caller's words are a whole turn."""

from __future__ import annotations

from connector.turn.words.table import Words, counted, listed, patterns, phrases, words

_SUBJECTS = words("i we he she they nobody nothing everything everybody someone somebody something there")
_PRONOUNS = _SUBJECTS | words("you it this that these those")
_DETERMINERS = words("the a an my your our their his her its")
_BE = words("am is are was were isn't aren't wasn't weren't")
_DO = words("do does did don't doesn't didn't")
_MODAL = words(
    """will would can could should shall may might must won't wouldn't can't cannot couldn't shouldn't mustn't"""
)
_HAVE = words("have has had haven't hasn't hadn't")
_CONTRACTED = words(
    """i'm you're we're they're it's he's she's that's there's here's what's where's who's how's when's i've you've
    we've they've i'd you'd we'd they'd he'd she'd it'd i'll you'll we'll they'll it'll he'll she'll that'll
    there'll ain't"""
)
_AUXILIARIES = _BE | _DO | _MODAL | _HAVE | _CONTRACTED
_ASKING = words("what when where why how who which long much many time often far and or but then so")
_GAVE = words("give gave send sent show showed told tell offered promised lent sold charged")
_YES = words("yes yeah yep yup no nope sure right think guess hope suppose afraid course")
_SIDE = words("me us him them you")

_REGULAR = words(
    """accept add advertise agree allow answer arrive ask attach book bounce call cancel change charge check claim
    clean close collect complain complete confirm connect contact cost cover create damage decide deduct deliver
    deny depend discuss display drop end enter exchange exist expect expire explain fail finish fix follow freeze
    happen help hope include increase install join keep last leak lock look love mail manage match move need offer
    open order overcharge park pass pay phone pick place plan play post prefer press print process promise provide
    rain receive recommend refund refuse register reject remember remove renew rent repair repeat replace reply
    report request reschedule reserve reset return ring say schedule seem ship show sign sound start stay stop
    subscribe suit switch talk top track transfer travel treat try turn update upgrade use verify visit wait want
    wish work cook deposit decline"""
)
_IRREGULAR = words(
    """be become became begin began begun break broke broken bring brought buy bought came come cut do done feel felt
    find found forget forgot forgotten get got gotten gets give gave given go goes went gone going have hear heard
    hold held keep kept know knew known leave left lend lent let lie lose lost make made mean means meant meet met
    pay paid put read ring rang run ran said see saw seen sell sold send sent set shut sit sat sleep speak spoke
    spoken spend spent stand steal stole stolen take took taken teach tell told think thought understand understood
    wear went withdraw serve serves withdrew write wrote written makes making taking giving having doing being"""
)


def _inflected(verb: str) -> frozenset[str]:
    stem = verb.removesuffix("e")
    plural = verb[:-1] + "ies" if verb[-1] == "y" and verb[-2] not in "aeou" else verb + "s"
    past = verb[:-1] + "ied" if verb[-1] == "y" and verb[-2] not in "aeou" else stem + "ed"
    return frozenset({verb, plural, past, stem + "ing"})


# Verbs that mean nothing without their object; those that can do without ("cancel", "pay") are not among them.
_TRANSITIVE = frozenset().union(
    *map(
        _inflected,
        words(
            """access activate add attach avoid book check collect confirm contain create deny describe discuss dispute
            download explain include install mention need order provide purchase receive recommend remove replace
            request require reserve return unlock upload use verify want"""
        ),
    )
) | words(
    """send sends sent sending give gives gave given giving tell tells told telling shown bring brings brought bringing
    put puts putting take takes took taking taken make makes made making get gets getting got buy buys bought buying
    find finds finding found lose losing lost have having had do did done fix like prefer ask asking say says saying
    said let keep keeps keeping wonder wondering hoping mean forgot forget reset set rate link lend know afford choose
    spell enter submit reach repeat pick completed"""
)

_NUMBERS = counted(
    listed(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen"""
    ),
    dict(zip(listed("twenty thirty forty fifty sixty seventy eighty ninety"), range(20, 100, 10), strict=True)),
    " ",
) | {"oh": "0", "o": "0", "nought": "0", "hundred": "00"}

ENGLISH = Words(
    fillers=words("um uh er erm hmm hm uhm umm ehm ah mm eh"),
    backchannels=phrases(
        """
        uh huh
        mm hmm
        mm hm
        mhm
        mm
        hmm
        yeah
        yep
        yup
        yes
        ok
        okay
        right
        alright
        all right
        sure
        i see
        got it
        gotcha
        of course
        oh
        ah
        aha
        cool
        great
        good
        nice
        fine
        exactly
        absolutely
        true
        wow
        really
        oh really
        makes sense
        that makes sense
        i know
        i understand
        fair enough
        oh ok
        oh okay
        """
    ),
    lead_ins=phrases(
        """
        in that case
        for example
        for instance
        first of all
        to be honest
        not only
        by the way
        as far as i know
        """
    )
    | words("so well and but actually basically listen look anyway now oh ah then like also or because um uh er"),
    answers=phrases(
        """
        yes
        yeah
        yep
        yup
        no
        nope
        nah
        ok
        okay
        sure
        right
        alright
        all right
        of course
        exactly
        correct
        absolutely
        definitely
        perfect
        great
        fine
        good
        please
        yes please
        thanks
        thank you
        thank you very much
        thank you so much
        thanks a lot
        thanks very much
        many thanks
        cheers
        bye
        goodbye
        good bye
        bye bye
        see you
        sorry
        excuse me
        pardon
        uh huh
        mm hmm
        mhm
        got it
        never mind
        sir
        madam
        """
    ),
    wholes=phrases(
        """
        what
        who
        why
        when
        where
        how
        how come
        how so
        which one
        which ones
        what else
        how much
        how many
        how long
        what time
        since when
        me
        me too
        i'm not
        it's not
        that is correct
        you too
        i know
        i don't know
        no idea
        i have no idea
        i don't mind
        i forgot
        i got it
        how are you
        who are you
        what do you mean
        what did you say
        what is it
        none
        nothing
        nothing else
        all of them
        both
        both of them
        either
        neither
        myself
        """
    ),
    short_answers=phrases(
        """
        i do
        i did
        i don't
        i didn't
        i can
        i can't
        i will
        i won't
        i am
        i have
        i haven't
        i would
        i wouldn't
        we do
        we don't
        we are
        it is
        it isn't
        it was
        it wasn't
        it does
        it doesn't
        there is
        there isn't
        they are
        they do
        """
    ),
    announcements=phrases(
        """
        maybe
        perhaps
        hi
        hello
        hey
        hi there
        hello there
        hello hello
        good morning
        good afternoon
        good evening
        good day
        hello good morning
        hi good morning
        one moment
        one second
        just a moment
        just a second
        wait
        wait a second
        hold on
        hang on
        let me see
        let me think
        let me check
        can you help me
        could you help me
        i need help
        i need some help
        i need your help
        can i ask you something

        it depends
        """
    ),
    courtesies=phrases(
        """
        please
        if you please
        thanks
        thank you
        thank you very much
        thank you so much
        thanks a lot
        bye
        bye bye
        goodbye
        sir
        madam
        """
    ),
    asides=patterns(
        """
        i think/guess/suppose/believe/hope
        you know
        i mean
        """
    ),
    cannot_end=words(
        """the a an my your our their its every each and or but because if whether although unless while than as of
        from with for to in on at about by into onto until till during between among without within towards toward
        against per via except including regarding concerning near behind under above beside like very quite
        rather what which whose when where how who whom whoever whichever really just not i we he she they also is
        are am was were be been being has had have do does did will would can could should shall may might must
        i'm you're we're they're it's he's she's that's there's here's what's where's who's how's i've you've
        we've they've i'd you'd we'd they'd he'd she'd i'll you'll we'll they'll it'll isn't aren't wasn't weren't
        hasn't haven't hadn't don't doesn't didn't won't wouldn't can't cannot couldn't shouldn't mustn't gonna
        wanna gotta let's after so since next last another other because whereas plus versus around through mr mrs
        ms dr try trying tried going ordering any called such"""
    ),
    after_numbers=words("am pm"),
    cannot_end_after=patterns(
        """
        @auxiliary there
        there @auxiliary
        @ask @pronoun mind
        you please @act
        can/could/would/will you @act
        @ask you/it/this/that/these/those/nobody/somebody/someone/anyone/anybody/everyone
        @be it/this/that/these/those/he/she
        ^ @ask *
        ^ @be you
        ^ @ask @determiner *
        ^ @have @determiner *
        @asking @ask @determiner *
        ^ @be @determiner *
        @determiner * that/who/which
        think/hope/hoping/believe/said/says/heard/sure/possible/understand/told/afraid/saying/just/so/now/say that
        told/tell/ask/asked/asking/inform/informed/show/give/send/sent/gave/bring/offer/offered me/us/him/her/them/you
        remind/let @side
        tell the/my/your *
        told/tell/show/asked @side that
        i/we/they recently/just/already/never/always
        ^ i hope
        you/please show/update
        would/i'd/you'd/we'd better/rather/prefer/love/hate
        @the most/more/best/only/same/new/old/first/nearest/closest/next/last/whole/main/other/large/small/big/current
        because/if/when/whether/that/and/but/than/as/while you/it/this
        out/because/instead/kind/sort/lot/couple/number/bit/one of
        number/address/name/code is
        i was
        i keep
        there are/is some/a/any/no
        @the number/reason/problem/question/thing/issue is
        whether/if @the *
        when/where/why @the *
        @wh time/kind/sort/type @the *
        ^ i think/mean/believe
        ^ you know
        ^ if/when/because/since/while/although you/it
        able
        what/which kind/sort/type
        to the
        in order
        due
        according
        up till
        """,
        auxiliary=_AUXILIARIES,
        ask=_DO | _MODAL,
        asking=_ASKING,
        have=words("has have had"),
        be=_BE,
        determiner=_DETERMINERS,
        the=words("the a an my your our their"),
        side=_SIDE,
        pronoun=_PRONOUNS,
        act=words("cancel change book reserve transfer extend renew open close fix move postpone deliver schedule"),
        wh=words("what which"),
    ),
    may_end=patterns(
        """
        think/hope/guess/said/believe/suppose/hopefully/or/not/do/did so
        so so
        even/so far
        why/maybe/probably/definitely/certainly/perhaps/course/hope/or/guess/thanks/rather/really/better/still not
        ^ not really
        ^ really
        or not/something/anything/whatever
        something/anything/nothing/looks/look/sounds/feels/looked/is/as/it/more/just like
        you/they/we/i/would like
        what/how/which would you like
        love/loved/happy/glad/don't/doesn't/didn't/allowed/won't to
        as/what/everything/all @pronoun want/need/like/can/could/do/have/did
        if/when/whenever/wherever/whatever/how/where/that @pronoun want/need/like/did/do
        if i/you may
        long/soon/much/many/quickly/fast/best/well/often as possible
        as @pronoun can/could/do/did/like/want/need
        @yes @pronoun @auxiliary
        @yes @pronoun @auxiliary not
        @yes it is/was/does/did/isn't/doesn't
        @yes there is/are/isn't/aren't
        think/course @pronoun @auxiliary
        as @pronoun said/say
        so/neither/nor @auxiliary @pronoun
        of course @pronoun @auxiliary
        like/about/with/for/of/at/from/than that/this/it
        do/does/did/done/repeat/know/see/read/tried/try/want/need/understand that/this/it
        for/to/about/from/with/of/at/than/as/call/calling/help/calls/around me/us/him/her/them
        about/and/with/to/before/as/wants/what/who/than/only my/his/her/mine
        in/on/before/after/at/by/from/until/till/through then/now
        later/early/carry/going/so/from on
        from now on
        human being
        still/is/are/was the same
        day/week/month/year/morning/shortly/soon/look/looking/looks after
        what @ask @pronoun say/think * * was/is
        what @ask @pronoun say/think * was/is
        is it so
        have to be
        where @ask @pronoun * to/from/at
        @what @ask @pronoun * * in/from/with/for
        @what @ask @pronoun * * * in/from/with/for
        @what * @ask @pronoun * * in/from/with/for
        @what * @ask @pronoun * * * in/from/with/for
        weather/it/that/this/they/there/place/food like
        @wh * @be it/this/that/they/these/those
        close/near by
        than/as i/we/you *
        why @pronoun @be
        what/which/many/much * @be there
        what/which/many/much * * @be there
        what @be there
        someone/somebody/anyone/anybody i/we can/could talk/speak to/with
        who/someone/somebody/anyone/anybody to talk/speak to/with
        @pronoun didn't/don't do
        @pronoun did not do
        have/has/had been
        @fronted @pronoun @gave @side
        @determiner * @pronoun @gave @side
        @determiner * * @pronoun @gave @side
        what @ask @pronoun @gave @side
        @what @ask @pronoun do/have
        @what * @ask @pronoun do/have/be
        @what @ask @pronoun @still do
        something/anything/nothing/all/everything @pronoun @ask do
        @what will/would/could/should/might/can @pronoun be
        what will/would/could/should @the * be
        @what * will/would/could/should @the * be
        one * to another
        to/with/from/for/of another
        why can't/won't/don't/isn't/doesn't/didn't @pronoun
        ^ where * * from/to/at
        ^ where * * * from/to/at
        ^ where * * * * from/to/at
        who i am
        @pronoun say/said/think/thought @pronoun am/is/was/are
        if possible/necessary/not/so/needed
        wherever/whenever/whatever/however/somehow
        i want/need it to
        what's/what/is/was going on
        @wh @be you/it/this/that/these/those/he/she
        how @be things/it/you
        where/how/what/when @be @the *
        what @be you/they/it doing
        @wh @be it/this/that
        where/when/how/why @do @pronoun @verb
        me/you/them/us know
        i know
        don't/didn't/doesn't/never/wouldn't/not know/mind/understand/remember/ask/say
        if you don't/wouldn't mind
        never mind
        anything/something/what/who/where/anyone/somewhere/everything/nothing/nobody/much/one/everyone/anybody else
        any other
        all i need/want/have/know/get
        a while
        all/any/this/that around/through/though
        the/a/any/this/that/every/each/which/no/such other
        each/one/any other
        the/my/your/this/his/her last/next/other
        week/weekend/month/year/monday/tuesday/wednesday/thursday/friday/saturday/sunday/day next/last/after
        since then
        be/been/was/is/were/are/get/gets/got called
        there by then
        @any any
        going to try
        get through
        getting/get/got/gets/put/come/came/went/go/going/fell/is through
        """,
        pronoun=_PRONOUNS,
        yes=_YES,
        auxiliary=_AUXILIARIES,
        wh=words("what how who where when why"),
        be=_BE,
        do=_DO,
        ask=_DO | _MODAL | _HAVE,
        side=_SIDE,
        gave=_GAVE,
        determiner=_DETERMINERS,
        fronted=words("that which what everything anything something all"),
        what=words("what how much many long which"),
        still=words("still now then next even"),
        the=words("the my your our their his her this that"),
        verb=words("open close start begin"),
        any=words("have got without there take want need"),
    ),
    particles={
        "from": words("come comes came coming"),
        "in": words(
            """plug plugged log logged logging sign signed signing check checked come came fill filled plug move get
            let bring"""
        ),
        "on": words("plugged powered turn turned switch switched hold go move carry log"),
        "through": words("put go goes going gone went come came get got getting"),
        "around": words("turn look drive walk"),
        "by": words("come stop drop go pass"),
        "with": words("deal dealt"),
        "under": words("booked registered filed"),
        "about": words("wondering thinking"),
        "near": words("anywhere somewhere"),
    },
    object_pronouns=words("it this that you me these those"),
    stranding=words("of from with for to in on at about by into through near like"),
    transitive=_TRANSITIVE,
    object_before=_BE | words("be been being get got gets getting i'm it's that's they're you're we're been"),
    fronted=words("what which whatever who whom that everything anything something all whichever one things"),
    quantified=words("much many long far"),
    nouns_too=words(
        """order orders check checks book books return returns request requests use reset repair rate rates need
        purchase purchases access link links dispute disputes mention"""
    ),
    adverbs=words("just never already also still only recently ever always really actually now even originally not"),
    auxiliaries=_AUXILIARIES,
    subjects=_SUBJECTS | words("please then"),
    verbs=frozenset().union(*map(_inflected, _REGULAR), _IRREGULAR, (verb + "s" for verb in _IRREGULAR)),
    verb_endings=("ed", "ing"),
    infinitive=words("to"),
    determiners=_DETERMINERS,
    verb_after_subject=_DO | _MODAL,
    asking=_ASKING,
    subordinators=words("if when because since while although unless whenever once whether as before after until"),
    embedding=words("what which where when how who why whether if because"),
    indirect=words("what where when how which who much many long"),
    closing=words("is are was were am"),
    coordinators=words("and but or so"),
    possessives=words("my our"),
    requests=patterns(
        """
        i would/i'd like/love to
        i would/i'd like
        i'd like/love to
        i'd like
        i want/wanted/need/needed/wish/have/hope/hoped/plan/gotta to
        i want/need/wanted
        i'm/i calling/trying/looking/hoping/planning to
        i was hoping/wondering/looking/trying/planning/calling to
        i was hoping/wondering if i could/can
        i was hoping i could/can
        i am calling/trying/looking/hoping to
        i'm looking for
        i am looking for
        i'm calling to
        can/could/may i @announced
        can/could/may we @announced
        could/can you @helped me
        is it possible to
        would it be possible to
        we would like to
        we would like
        we'd like to
        we'd like
        we want/need to
        we need/want
        """,
        announced=words(
            """book order change cancel reserve make schedule speak talk ask have get return move reschedule"""
        ),
        helped=words("book order change cancel reserve help"),
    ),
    pending=patterns(
        """
        is it possible
        would/will it be possible
        i'm/am/be/are interested
        i'm/am not sure
        do/did you think
        best/only/easiest/fastest/any/other way
        the difference
        reason i'm/i/for calling/called
        reason i called
        let me know
        make sure
        is there anyone/someone/anything/anybody
        do you have anything/something/one
        do you have a table/room/minute/moment
        trying to reach
        be arriving/coming/staying/moving
        called me
        find out
        transfer/connect me
        speak/talk to/with someone/somebody/anyone
        ^ is/are there a/an/any *
        ^ is/are there a/an/any * *
        ^ is/are there * *
        """
    ),
    anaphors=words("one ones same other latter former first second third last"),
    topics=patterns(
        """
        i/we have an/a appointment/reservation/booking/meeting
        i have/had/got/need a/an/another/one/some/two @matter
        i have/had/got a @kind @matter
        i've got/had a/an/another/one/some/two @matter
        i've got a @kind @matter
        i have got a/an/another/one/some/two @matter
        i have a few/couple @matter
        i have a couple of @matter
        i'm having a/an/some @matter
        i'm having @matter
        there's a/an/some @matter
        there is/was a/an/some @matter
        it's about my/the/an/a
        it is about my/the/an/a
        i'm calling about my/the/an/a
        i am calling about my/the/an/a
        """,
        kind=words("quick small little big different general few couple short"),
        matter=words(
            """question questions problem problems issue issues complaint request concern query trouble favor favour"""
        ),
    ),
    narrations=patterns(
        """
        i/we/i've @did
        i/we just/recently/already/have @did
        i/we was/were/am/are/have a customer/member/client
        i'm a customer/member/client/subscriber
        """,
        did=words(
            """got received bought ordered placed purchased booked called spoke signed sent made paid subscribed
            returned moved"""
        ),
    ),
    scheduled=words("book reserve schedule reservation appointment table room move reschedule booking postpone"),
    times=words(
        """monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays today
        tomorrow tonight morning afternoon evening night noon midday midnight week weekend month year o'clock am pm
        january february march april may june july august september october november december now soon asap later
        earlier earliest nights days weeks weekends half quarter thirty first second third fourth fifth christmas"""
    ),
    details=words(
        """to how what whether why from for with in on at into about under by that who which because and but where
        when if near using through instead without between before after until so as over via"""
    ),
    continuations=words("and but because that which so however only then it they"),
    numbers=_NUMBERS
    | {f"double {word}": 2 * digit for word, digit in _NUMBERS.items() if len(digit) == 1}
    | {f"triple {word}": 3 * digit for word, digit in _NUMBERS.items() if len(digit) == 1},
    letters={
        "double u": "w",
        "dash": "-",
        "hyphen": "-",
        "underscore": "_",
        "slash": "/",
        "plus": "+",
        "zed": "z",
        "zee": "z",
        "aitch": "h",
    }
    | {f"double {letter}": 2 * letter for letter in "bcdefglmnoprst"}
    | {
        word: word[0]
        for word in listed(
            """alpha alfa bravo charlie foxtrot hotel juliet kilo lima oscar papa quebec romeo sierra tango uniform
            whiskey xray yankee zulu"""
        )
    },
    scales=words("hundred"),
    spelled_as=patterns(
        """
        as in
        like in
        for
        like
        """
    ),
    number_nouns=words(
        """number code pin zip postcode phone mobile telephone digits id reference account iban policy extension
        serial"""
    ),
    phone_nouns=words("phone mobile telephone cell"),
    email_nouns=words("email mail"),
    copulas=words("is it's that's spelled spelt was called under be"),
    clock=words("at in since until till around before after from by past to about quarter half year"),
    at_signs=words("at @"),
    dots=words("dot point period"),
    postcode_nouns=words("zip postcode postal"),
    months=words("january february march april may june july august september october november december"),
    phone_digits=10,
    trunk_phone_digits=11,
    questions=(
        ("EMAIL", phrases("email\nmail address")),
        ("POSTCODE", phrases("zip\npostcode\npost code\npostal code")),
        ("PHONE", phrases("phone\ntelephone\nmobile number\ncell\ncallback number\nreach you\ncall you back on")),
        ("BIRTHDATE", phrases("date of birth\nbirth date\nbirthdate\nbirthday\nwere you born")),
        ("SPELLING", phrases("spell\nspelling\nletter by letter")),
        (
            "NAME",
            phrases("your name\nfull name\nfirst name\nlast name\nsurname\nspeaking to\nspeaking with\nwhat name"),
        ),
        ("QUANTITY", phrases("how many\nhow much")),
        ("TIME", phrases("what time\nwhich time\nat what hour")),
        ("DATE", phrases("what date\nwhich date\nwhat day\nwhich day\nthe date\nwhen")),
        ("NUMBER", phrases("number\ncode\npin\ndigits\nthe id\nyour id")),
        ("ADDRESS", phrases("address\nwhere do you live\nstreet")),
    ),
    yes_no=patterns(
        """
        @be
        do/does/did/don't/doesn't/didn't
        would/should/shall/will/has/wouldn't
        have you
        can/could/may i help you with anything
        can/could/may/shall i @act
        """,
        be=_BE,
        act=words("send call book cancel change confirm repeat transfer connect put go do read add"),
    ),
    choice=words("or"),
)
